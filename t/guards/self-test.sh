#!/bin/bash
# A guard that cannot fail guards nothing: each is run on copies of the tree in
# which one thing is broken, and has to find it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/usersync-guards.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' INT TERM HUP

count=0
failed=0

report() { # ok or "not ok", text
    count=$((count + 1))
    [[ $1 == ok ]] || failed=1
    printf '%s %d - %s\n' "$1" "$count" "$2"
}

# A copy of what the guards look at, as if nothing else were there.
fresh_copy() {
    rm -rf "$work/tree"
    mkdir -p "$work/tree"/{src,t/unit,sql,.libs}
    cp -R "$top"/{mod_usersync.c,include,conf,README.md} "$work/tree/"
    cp "$top"/src/*.c "$work/tree/src/"
    cp "$top/sql/README.md" "$work/tree/sql/"
    cp "$top"/t/unit/*.[ch] "$work/tree/t/unit/"
    [[ ! -e $top/.libs/mod_usersync.so ]] ||
        cp "$top/.libs/mod_usersync.so" "$work/tree/.libs/"
}

# breaks GUARD WHAT COMMAND...: after COMMAND in the copy the guard is red, and
# what it says contains WHAT.
breaks() {
    local guard=$1 what=$2 said status=0
    shift 2
    fresh_copy
    (cd "$work/tree" && "$@")
    said=$(bash "$here/$guard.sh" "$work/tree" 2>&1) || status=$?
    if ((status == 1)) && [[ $said == *"$what"* && $said == *'not ok'* ]]; then
        report ok "$guard finds: $what"
    else
        report 'not ok' "$guard does not find: $what"
        printf '# %s\n' "${said//$'\n'/ | }"
    fi
}

# Put a line in front of a file, behind it, or through sed -i.
# shellcheck disable=SC2317
first() { sed -i "1i $2" "$1"; }
last() { printf '%s\n' "$2" >>"$1"; }
# shellcheck disable=SC2317
edit() { sed -i "$2" "$1"; }
repeat() { # count, text, file
    local i
    for ((i = 0; i < $1; i++)); do printf '%s\n' "$2"; done >>"$3"
}
# shellcheck disable=SC2317
library() { # C source, one line
    gcc -shared -fPIC -o .libs/mod_usersync.so -x c - <<<"$1"
}

for guard in "$here"/*.sh; do
    name=$(basename "$guard" .sh)
    [[ $name != self-test ]] || continue
    fresh_copy
    if said=$(bash "$guard" "$work/tree" 2>&1); then
        report ok "$name is content with the tree as it is"
    else
        report 'not ok' "$name is not content with the tree as it is"
        printf '# %s\n' "${said//$'\n'/ | }"
    fi
done

breaks layers 'src/us_json.c includes us_config.h' \
    first src/us_json.c '#include "us_config.h"'
breaks layers 'src/us_http.c includes us_pg.h' \
    first src/us_http.c '#  include "us_pg.h"'
breaks layers 'include/us_secret.h includes us_flows.h' \
    first include/us_secret.h '#include <us_flows.h>'
breaks layers 'src/us_store.c may not include us_pg_conn.h' \
    first src/us_store.c '#include "us_pg_conn.h"'
breaks layers 'src/us_new.c has no place' \
    last src/us_new.c 'int us_new;'
breaks layers 'us_new.h, which has no place' \
    first src/us_flows.c '#include "us_new.h"'
breaks layers 'src/us_answer.c may not include curl/curl.h' \
    first src/us_answer.c '#include <curl/curl.h>'
breaks layers 'src/us_answer.c may not include json-c/json.h' \
    first src/us_answer.c '#include <json-c/json.h>'
breaks layers 'src/us_store.c may not include libpq-fe.h' \
    first src/us_store.c '#include <libpq-fe.h>'
breaks layers 'mod_usersync.c may not include mod_dbd.h' \
    first mod_usersync.c '#include <mod_dbd.h>'
breaks layers 'src/us_secret.c may not include openssl/evp.h' \
    first src/us_secret.c '#include <openssl/evp.h>'
breaks layers 'src/us_store.c knows request_rec' \
    last src/us_store.c 'static request_rec *forbidden;'

breaks exports 'there is no .libs/mod_usersync.so' \
    rm -f .libs/mod_usersync.so
breaks exports 'exports: us_leak usersync_module' \
    library 'int usersync_module; int us_leak;'
breaks exports 'exports: other_module' library 'int other_module;'

breaks directives 'conf/usersync.conf lacks UserSyncTimeout' \
    edit conf/usersync.conf '/^ *#UserSyncTimeout /d'
breaks directives 'conf/usersync.conf lacks UserSyncTimeout' \
    edit conf/usersync.conf 's/#UserSyncTimeout /# UserSyncTimeout /'
breaks directives "README.md's reference lacks UserSyncTable" \
    edit README.md '/^### UserSyncTable$/d'
breaks directives 'README.md speaks of UserSyncTimeuot' \
    last README.md 'See UserSyncTimeuot.'
breaks directives 'usersync-example.conf speaks of UserSyncURL' \
    last conf/usersync-example.conf 'UserSyncURL https://x.example'
breaks directives 'conf/usersync.conf has UserSyncGone' \
    last conf/usersync.conf '#UserSyncGone On'
breaks directives 'conf/usersync.conf lacks UserSyncNew' \
    edit src/us_directives.c \
    's/^    {NULL}}/    AP_INIT_TAKE1("UserSyncNew", set_url, NULL, 0, ""),\n&/'
breaks directives 'twice in the table: UserSyncProxy' \
    edit src/us_directives.c \
    's/^    {NULL}}/    AP_INIT_TAKE1("UserSyncProxy", set_url, NULL, 0, ""),\n&/'

breaks routes 'us_route_names[]: usersync-login' \
    edit mod_usersync.c 's/= {"usersync-register", "usersync-login"/= {"usersync-login"/'
breaks routes 'usersync-gone' \
    edit mod_usersync.c 's/"usersync-login", us_login/"usersync-gone", us_login/'
breaks routes 'does not begin with usersync-' \
    edit mod_usersync.c 's/"usersync-login"/"usync-login"/'
breaks routes 'README.md does not name usersync-login' \
    edit README.md '/usersync-login/d'

breaks config_members 'us_config_merge_server does not merge proxy' \
    edit src/us_config.c '/MERGE_SET(proxy,/d'
breaks config_members 'us_config_merge_server does not merge own_lines' \
    edit src/us_config.c '/merged->own_lines = /d'
breaks config_members 'us_config_create_server does not set timeout' \
    edit src/us_config.c '/conf->timeout = US_UNSET/d'
breaks config_members 'us_config_merge_server does not merge new_member' \
    edit include/us_config.h 's/^} us_server_conf;/    const char *new_member;\n&/'
breaks config_members 'us_config_create_dir does not set new_member' \
    edit include/us_config.h 's/^} us_dir_conf;/    int new_member;\n&/'
breaks config_members 'us_config_create_dir does not start from zeros' \
    edit src/us_config.c 's/apr_pcalloc/apr_palloc/'

for name in strcpy strcat sprintf gets strtok atoi atol system popen alloca; do
    breaks banned 'src/us_new.c:1: a banned call' \
        last src/us_new.c "int x = (int)$name (y);"
done
breaks banned 'a // comment' last src/us_json.c 'int x; // comment'
breaks banned 'src/us_new.c:1: a tab' last src/us_new.c "$(printf '\tint x;')"
breaks banned 'more than 80 columns' \
    last include/usersync.h "$(printf '/*%079d*/' 0)"
breaks banned 'src/us_new.c has 601 lines' repeat 601 'int x;' src/us_new.c
breaks banned 'or a blank at the end of the line' last src/us_json.c 'int x; '

# neither words nor URLs in texts and comments are calls or comments
long_function() {
    last src/us_new.c '{'
    repeat "$1" '    x();' src/us_new.c
    last src/us_new.c '}'
}
breaks banned 'a function that is too long' long_function 59

harmless() {
    last src/us_new.c '/* strcpy(a, b); // see http://x.example */'
    last src/us_new.c 'const char *s = "system(1) // \"no\" comment";'
    last src/us_new.c 'int x = apr_strtok(1) + my.system(2) + p->gets(3);'
    long_function 58
}
fresh_copy
(cd "$work/tree" && harmless)
if said=$(bash "$here/banned.sh" "$work/tree"); then
    report ok 'banned lets words, URLs and other names pass'
else
    report 'not ok' "banned finds what is not there: $said"
fi

printf '1..%d\n' "$count"
exit "$failed"
