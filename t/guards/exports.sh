#!/bin/bash
# The module exports its record and nothing else: any other name could clash
# with another module's in httpd.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

module=.libs/mod_usersync.so
if [[ -e $module ]]; then
    # the address sanitizer adds its own name to each
    names=$(nm -D --defined-only "$module" | awk '{print $NF}' |
        grep -v '^__odr_asan\.' || true)
    [[ $names == usersync_module ]] ||
        found "$module exports: ${names//$'\n'/ }"
else
    found "there is no $module: make"
fi

finish 'usersync_module is all that is exported'
