#!/bin/bash
# Calls that this code does not use, and the form that all of it has.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
shopt -s nullglob

banned='strcpy|stpcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof'
banned+='|system|popen|alloca|scanf|sscanf|tmpnam|mktemp|rand|signal'
max_columns=80
max_lines=600
max_function=60

c_files=(mod_usersync.c src/*/*.[ch] include/*.h support/*.[ch]
    support/*/*.[ch] t/unit/*.[ch] t/fuzz/*.[ch]
    t/bench/*.[ch])

# Every script below t/ and .ci/, whatever its name.
scripts=()
while read -r file; do scripts+=("$file"); done < <(
    find t .ci -type f ! -path 't/logs/*' ! -path 't/unit/bin/*' \
        ! -path 't/fixtures/*' 2>/dev/null | sort |
        while read -r file; do
            case $file in
                *.t | *.pm | *.pl | *.sh | *.bash) echo "$file" ;;
                *) if head -c 64 "$file" | grep -qaE '^#!.*(sh|perl)'; then
                    echo "$file"
                fi ;;
            esac
        done
)

# Reports each line of FILE:NUMBER:TEXT on stdin as this problem.
report() {
    local file number _
    while IFS=: read -r file number _; do found "$file:$number: $1"; done
}

# Functions from a line that matches to the "}" in the first column.
long_functions() { # pattern, files
    awk -v max="$max_function" -v start="$1" '
        FNR == 1 { from = 0 }
        !from && $0 ~ start { from = FNR }
        /^}/ { if (from && FNR - from + 1 > max) print FILENAME ":" from ":"
               from = 0 }
    ' "${@:2}"
}

code=$(code_of "${c_files[@]}")
report 'a banned call' < <(
    grep -E "^[^:]*:[0-9]+:(.*[^A-Za-z0-9_.>])?($banned)[[:space:]]*\(" \
        <<<"$code" || true
)
report 'a // comment' < <(grep -F '//' <<<"$code" || true)
report "more than $max_columns columns" < <(
    grep -HnE ".{$((max_columns + 1))}" "${c_files[@]}" || true
)
report 'a function that is too long' < <(
    long_functions '^{' "${c_files[@]}"
    long_functions '^(sub [a-zA-Z_]+|[a-z_]+[(][)]) [{]$' "${scripts[@]}"
)
report 'a tab, or a blank at the end of the line' < <(
    grep -HnP '\t|\s$' "${c_files[@]}" "${scripts[@]}" || true
)
while read -r lines file; do
    [[ $file == total ]] || ((lines <= max_lines)) ||
        found "$file has $lines lines"
done < <(wc -l "${c_files[@]}" "${scripts[@]}")

finish 'no banned call, no long line, function or file, no tab'
