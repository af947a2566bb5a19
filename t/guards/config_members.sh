#!/bin/bash
# Each member of the configuration structs has a start value and is merged: a
# forgotten one would silently not be inherited.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

# Flags whose start value is 0, not US_UNSET.
zero_by_intent=' own_lines gate headers '

body_of() { # function
    code_of src/us_config.c | cut -d: -f3- |
        awk -v name="$1" 'index($0, name "(") && /^[a-z]/ { on = 1 }
                          on { print } /^}/ { on = 0 }'
}

check_struct() { # name, create function, merge function
    local create merge members member
    create=$(body_of "$2")
    merge=$(body_of "$3")
    # "*" in front of those that are pointers
    members=$(code_of include/us_config.h | cut -d: -f3- |
        sed -n "/^typedef struct $1 {/,/^}/p" |
        sed -nE 's/^ +.*[ *]([a-z_]+);.*/&\n\1/p' |
        awk 'NR % 2 { pointer = /\*/ } NR % 2 == 0 { print (pointer ? "*" : "") $0 }')
    [[ $members ]] || found "struct $1 has no members?"
    [[ $create == *apr_pcalloc* ]] || found "$2 does not start from zeros"
    for member in $members; do
        if [[ $member != '*'* && $zero_by_intent != *" $member "* ]] &&
            ! grep -qE "conf->$member = US_UNSET;" <<<"$create"; then
            found "$2 does not set $member"
        fi
        member=${member#\*}
        grep -qE "MERGE_SET\($member,|merged->$member = " <<<"$merge" ||
            found "$3 does not merge $member"
    done
}

check_struct us_server_conf us_config_create_server us_config_merge_server
check_struct us_dir_conf us_config_create_dir us_config_merge_dir

finish 'each member is created and merged'
