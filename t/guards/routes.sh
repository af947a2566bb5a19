#!/bin/bash
# README.md and docs/routes.md describe each route.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

routes=$(sed -n '/^#define US_ROUTES(/,/[^\]$/p' include/usersync.h |
    grep -oE '"[^"]+"' | tr -d '"' || true)

[[ $routes ]] || found 'include/usersync.h: US_ROUTES is empty'
for route in $routes; do
    [[ $route == usersync-* ]] || found "$route does not begin with usersync-"
    for file in README.md docs/routes.md; do
        grep -qwF "$route" "$file" || found "$file does not name $route"
    done
done

finish 'README.md and docs/routes.md tell of each route'
