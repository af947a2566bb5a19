#!/bin/bash
# Each directive of the table stands in conf/usersync.conf and has a section in
# README.md, and neither knows one that is not in the table.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

table=$(sed -n '/^const command_rec us_directives\[\]/,/^ *{NULL}/p' \
    src/us_directives.c | grep -oE '"UserSync[A-Za-z]+"' | tr -d '"' | sort)
[[ $table ]] || found 'src/us_directives.c: no directive found'

# names on stdin, where they stand
compare() {
    local names name
    names=$(sort -u)
    for name in $(comm -23 <(printf '%s\n' "$table") <(echo "$names")); do
        found "$1 lacks $name"
    done
    for name in $(comm -13 <(printf '%s\n' "$table") <(echo "$names")); do
        found "$1 has $name, the table has not"
    done
}

twice=$(uniq -d <<<"$table")
[[ ! $twice ]] || found "twice in the table: ${twice//$'\n'/ }"

# a line to be taken as it is: no blank behind "#"
compare conf/usersync.conf < <(
    sed -nE 's/^[[:space:]]*#?(UserSync[A-Za-z]+)[[:space:]].*/\1/p' \
        conf/usersync.conf
)
compare "README.md's reference" < <(
    sed -nE 's/^#+ (UserSync[A-Za-z]+)[[:space:]]*$/\1/p' README.md
)

# what is named in passing exists
for file in README.md sql/README.md conf/*; do
    while read -r name; do
        grep -qxF "$name" <<<"$table" ||
            found "$file speaks of $name, which there is not"
    done < <(grep -ohE '\bUserSync[A-Z][A-Za-z]*' "$file" | sort -u)
done

finish 'table, conf/usersync.conf and README.md name the same directives'
