#!/bin/bash
# The route table and the names that us_config_check.c knows are the same, and
# README.md tells of each.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

# The strings of an initialiser: what its first line looks like.
strings_of() {
    sed -n "/$1/,/};/p" mod_usersync.c | grep -oE '"[^"]+"' | tr -d '"' || true
}

routes=$(strings_of '^} routes\[\] = {')
names=$(strings_of '^const char \*const us_route_names\[\]')

[[ $routes ]] || found 'mod_usersync.c: routes[] is empty'
[[ $routes == "$names" ]] ||
    found "routes[]: ${routes//$'\n'/ }; us_route_names[]: ${names//$'\n'/ }"
for route in $routes; do
    [[ $route == usersync-* ]] || found "$route does not begin with usersync-"
    grep -qwF "$route" README.md || found "README.md does not name $route"
done

finish 'routes[] and us_route_names[] agree'
