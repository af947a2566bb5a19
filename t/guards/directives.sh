#!/bin/bash
# Each directive of the table is in conf/usersync.conf and has a section in
# docs/directives.md, is shown by -D DUMP_USERSYNC, and no document has one that
# is not in the table.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

table=$(sed -n '/^const command_rec us_directives\[\]/,/^ *{NULL}/p' \
    src/config/directives.c | grep -oE '"UserSync[A-Za-z]+"' | tr -d '"' | sort)
[[ $table ]] || found 'src/config/directives.c: no directive found'

# names on stdin, and where they are
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

# a line that can be used as it is has no blank after "#"
compare conf/usersync.conf < <(
    sed -nE 's/^[[:space:]]*#?(UserSync[A-Za-z]+)[[:space:]].*/\1/p' \
        conf/usersync.conf
)
compare docs/directives.md < <(
    sed -nE 's/^#+ (UserSync[A-Za-z]+)[[:space:]]*$/\1/p' docs/directives.md
)

# -D DUMP_USERSYNC prints what options.h names
shown=$(grep -oE '"UserSync[A-Za-z]+"' src/config/options.h | tr -d '"' | sort)
twice=$(uniq -d <<<"$shown")
[[ ! $twice ]] || found "src/config/options.h has twice: ${twice//$'\n'/ }"
compare src/config/options.h <<<"$shown"

# names in passing must exist, too, except for the one that CONTRIBUTING.md
# adds
for file in *.md docs/*.md sql/*.md t/*.md CHANGES conf/*; do
    while read -r name; do
        grep -qxF "$name" <<<"$table" ||
            [[ $file:$name == CONTRIBUTING.md:UserSyncExample ]] ||
            found "$file speaks of $name, which there is not"
    done < <(grep -ohE '\bUserSync[A-Z][A-Za-z]*' "$file" | sort -u)
done

finish 'table, conf/usersync.conf and the documents name the same directives'
