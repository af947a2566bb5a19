#!/bin/bash
# A lower layer never includes a higher one, each library has one user, and
# only those who answer requests know what a request is.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

# From the bottom up. A unit may include what stands on lines above its own;
# two on one line know nothing of each other. A new file needs a place here.
layers='
    usersync us_clock us_secret us_values us_cafile us_json_scan us_headers
    us_json us_log
    us_config us_http
    us_conftree us_limits us_flight
    us_cache us_pg
    us_answer us_request us_directives us_config_check us_store_check us_response
    us_supabase us_store
    us_flows us_gate
    mod_usersync
'

# Two files that are one unit: statements, lending, and what they share.
unit_of() {
    case $1 in
        us_pg_pool | us_pg_pools | us_pg_conn) echo us_pg ;;
        *) echo "$1" ;;
    esac
}

# header, and who alone may include it
only='
    curl/           src/us_http.c
    json-c/         src/us_json.c
    json.h          src/us_json.c
    libpq           src/us_pg.c
    postgresql/     src/us_pg.c
    mod_dbd.h       include/us_pg_conn.h
    apr_dbd.h       include/us_pg_conn.h
    us_pg_conn.h    src/us_pg.c
    us_pg_conn.h    include/us_pg_pool.h
    us_pg_pool.h    src/us_pg_pool.c
    us_pg_pool.h    src/us_pg_pools.c
    openssl/        src/us_cafile.c
'

# Those who know request_rec; for the others a pool and a log context do.
request_users='
    mod_usersync.c include/usersync.h
    include/us_config.h src/us_config.c
    include/us_limits.h src/us_limits.c
    include/us_request.h src/us_request.c
    include/us_response.h src/us_response.c
    include/us_flows.h src/us_flows.c
    include/us_gate.h src/us_gate.c
'

declare -A rank
line=0
while read -r -a units; do
    for unit in "${units[@]}"; do rank[$unit]=$line; done
    line=$((line + 1))
done <<<"$layers"

# FILE:HEADER for all that the files include.
includes_of() {
    grep -HE '^[[:space:]]*#[[:space:]]*include' "$@" |
        sed -E 's/^([^:]+):[^<"]*[<"]([^>"]+)[>"].*/\1:\2/'
}

check_rank() { # file, header of ours
    local from to
    from=$(unit_of "$(basename "${1%.*}")")
    to=$(unit_of "$(basename "${2%.h}")")
    if [[ ! ${rank[$from]+known} ]]; then
        found "$1 has no place in the table of layers"
    elif [[ ! ${rank[$to]+known} ]]; then
        found "$1 includes $2, which has no place in the table of layers"
    elif [[ $from != "$to" ]] && ((rank[$to] >= rank[$from])); then
        found "$1 includes $2, which does not stand below it"
    fi
}

check_only() { # file, header
    local prefix user listed='' allowed=''
    while read -r prefix user; do
        [[ $prefix && ($2 == "$prefix"* || $2 == */"$prefix"*) ]] || continue
        listed=1
        [[ $user != "$1" ]] || allowed=1
    done <<<"$only"
    [[ ! $listed || $allowed ]] || found "$1 may not include $2"
}

mapfile -t files < <(module_files)
while IFS=: read -r file header; do
    case $header in
        us_*.h | usersync.h) check_rank "$file" "$header" ;;
    esac
    check_only "$file" "$header"
done < <(includes_of "${files[@]}")
while read -r file; do
    [[ $request_users == *[[:space:]]"$file"[[:space:]]* ]] ||
        found "$file knows request_rec"
done < <(code_of "${files[@]}" | grep -w request_rec | cut -d: -f1 | sort -u)
for file in src/*.c; do
    unit=$(unit_of "$(basename "$file" .c)")
    [[ ${rank[$unit]+known} ]] ||
        found "$file has no place in the table of layers"
done

finish 'includes point downwards, each library has one user'
