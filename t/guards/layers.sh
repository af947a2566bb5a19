#!/bin/bash
# The folders of src/ are the module's parts, called rooms here: a room
# includes only what the table allows, each library has one user, and only the
# code that answers requests knows what a request is.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

# room: the rooms whose headers it may include. A new room needs a line.
declare -A allowed=(
    [base]=''
    [config]='base'
    [http]='base'
    [pg]='base config'
    [limits]='base config'
    [users]='base config pg limits'
    [supabase]='base config http limits'
    [reply]='base config'
    [doors]='base config limits users supabase reply'
    [top]='base config http pg limits users supabase reply doors'
    [support]='base config http pg'
)

# Headers that are private to their room, and that the programs in support/
# include all the same.
support_knows='src/pg/pq.h src/users/batch_sql.h src/supabase/user.h'

# header, and the only file that may include it
only='
    curl/           src/http/handle.h
    json-c/         src/base/json.c
    json.h          src/base/json.c
    libpq           src/pg/pq.c
    postgresql/     src/pg/pq.c
    pq.h            src/pg/pg.c
    pq.h            src/pg/pq.c
    pq.h            support/reconcile/db.c
    pq.h            support/reconcile/options.c
    mod_dbd.h       src/pg/conn.h
    apr_dbd.h       src/pg/conn.h
    conn.h          src/pg/pg.c
    conn.h          src/pg/pool.h
    pool.h          src/pg/pool.c
    pool.h          src/pg/pools.c
    openssl/        src/config/cafile.c
    openssl/        src/config/event_header.c
    openssl/        src/http/handle.c
    openssl/        src/supabase/webhook.c
'

# Files that know request_rec; a pool and a log context are enough for others.
request_users='
    mod_usersync.c include/usersync.h
    include/us_config.h src/config/config.c
    include/us_client.h src/limits/client.c
    include/us_limits.h src/limits/limits.c
    include/us_reply.h src/reply/reply.c src/reply/parts.h
    src/reply/hook_reply.c src/reply/proxied_reply.c
    include/us_sign_in.h src/doors/sign_in.c
    include/us_sign_out.h src/doors/sign_out.c
    include/us_gate.h src/doors/gate.c
    include/us_hook.h src/doors/hook.c
    include/us_event.h src/doors/event.c
    include/us_response.h src/doors/response.c
    src/doors/exchange.h src/doors/exchange.c src/doors/exchange_report.c
    include/us_status.h src/doors/status.c
    src/doors/signed.h src/doors/signed.c
    src/doors/request.h src/doors/request.c
    support/reconcile/httpd.c
'

# Headers in include/ without a .c of their name.
declare -A header_only=([include/usersync.h]=base [include/us_clock.h]=base)

# The room of a file: its folder. A header in include/ belongs to the room that
# has the .c of its name.
room_of() {
    local name
    case $1 in
        src/*/*) name=${1#src/}; echo "${name%%/*}" ;;
        include/*)
            if [[ ${header_only[$1]+known} ]]; then
                echo "${header_only[$1]}"
                return
            fi
            name=${1#include/us_}
            name=$(echo src/*/"${name%.h}".c)
            [[ ! -e $name ]] || room_of "$name"
            ;;
        support/*) echo support ;;
        *) echo top ;;
    esac
}

# FILE:HEADER for everything that the files include.
includes_of() {
    grep -HE '^[[:space:]]*#[[:space:]]*include' "$@" |
        sed -E 's/^([^:]+):[^<"]*[<"]([^>"]+)[>"].*/\1:\2/'
}

# The file of a header of ours: beside the file that includes it, in src/,
# in support/, or in include/. Nothing: it is not ours, or does not exist.
file_of() { # file, header
    local candidate
    for candidate in "$(dirname "$1")/$2" "src/$2" "support/$2" "include/$2"; do
        [[ ! -e $candidate ]] || { echo "$candidate"; return; }
    done
}

check_room() { # file, header
    local from to header
    if [[ $2 == *..* ]]; then
        found "$1 includes $2: a path that leads upwards"
        return
    fi
    header=$(file_of "$1" "$2")
    if [[ ! $header ]]; then
        case $2 in
            us_*.h | usersync.h) found "$1 includes $2, which there is not" ;;
        esac
        return
    fi
    from=$(room_of "$1")
    to=$(room_of "$header")
    [[ $from != support || " $support_knows " != *" $header "* ]] || return 0
    if [[ ! $from || ! $to ]]; then
        found "$1 includes $2: one of them has no room"
    elif [[ ! ${allowed[$from]+known} ]]; then
        found "$1 is in a room without a line in the table"
    elif [[ $from != "$to" && " ${allowed[$from]} " != *" $to "* ]]; then
        found "$1 includes $2: $from may not know $to"
    elif [[ $from != "$to" && $header == src/* ]]; then
        found "$1 includes $2, which is private to $to"
    fi
}

check_only() { # file, header
    local prefix user listed='' fine=''
    while read -r prefix user; do
        [[ $prefix && ($2 == "$prefix"* || $2 == */"$prefix"*) ]] || continue
        listed=1
        [[ $user != "$1" ]] || fine=1
    done <<<"$only"
    [[ ! $listed || $fine ]] || found "$1 may not include $2"
}

mapfile -t files < <(module_files; support_files)
while IFS=: read -r file header; do
    check_room "$file" "$header"
    check_only "$file" "$header"
done < <(includes_of "${files[@]}")
while read -r file; do
    [[ $request_users == *[[:space:]]"$file"[[:space:]]* ]] ||
        found "$file knows request_rec"
done < <(code_of "${files[@]}" | grep -w request_rec | cut -d: -f1 | sort -u)
while read -r file; do
    found "$file is not in a room: src/ROOM/NAME"
done < <(find src -name '*.[ch]' | grep -vE '^src/[^/]+/[^/]+$')
while read -r name; do
    found "two rooms have a $name, so that its header belongs to neither"
done < <(find src -name '*.c' -printf '%f\n' | sort | uniq -d)

finish 'each room knows what it may, each library has one user'
