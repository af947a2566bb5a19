#!/bin/bash
# A guard that cannot fail proves nothing: each is run on copies of the tree
# with one fault, and has to find it.
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

# A copy of what the guards look at, and nothing else.
fresh_copy() {
    rm -rf "$work/tree"
    mkdir -p "$work/tree"/{src,t/unit,sql,.libs}
    cp -R "$top"/{mod_usersync.c,include,conf,docs,CHANGES} "$work/tree/"
    cp "$top"/*.md "$work/tree/"
    cp "$top"/t/*.md "$work/tree/t/"
    (cd "$top" && cp --parents src/*/*.[ch] "$work/tree/")
    (cd "$top" && cp --parents support/*.c support/*/*.[ch] "$work/tree/")
    cp "$top/sql/README.md" "$work/tree/sql/"
    cp "$top"/t/unit/*.[ch] "$work/tree/t/unit/"
    [[ ! -e $top/.libs/mod_usersync.so ]] ||
        cp "$top/.libs/mod_usersync.so" "$work/tree/.libs/"
}

# breaks GUARD WHAT COMMAND...: after COMMAND in the copy the guard fails, and
# its output contains WHAT.
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

breaks layers 'src/base/json.c includes us_config.h: base may not know config' \
    first src/base/json.c '#include "us_config.h"'
breaks layers 'src/http/http.c includes us_pg.h: http may not know pg' \
    first src/http/http.c '#  include "us_pg.h"'
breaks layers 'include/us_secret.h includes us_sign_in.h: config may not know' \
    first include/us_secret.h '#include <us_sign_in.h>'
breaks layers 'src/users/users.c includes pg/pool.h, which is private to pg' \
    first src/users/users.c '#include "pg/pool.h"'
breaks layers 'src/users/store.c may not include pg/conn.h' \
    first src/users/store.c '#include "pg/conn.h"'
breaks layers 'src/new.c is not in a room' last src/new.c 'int us_new;'
breaks layers 'src/pg/pg.c includes ../users/fence.h: a path that leads up' \
    first src/pg/pg.c '#include "../users/fence.h"'
# shellcheck disable=SC2317
homeless() {
    last include/us_flow.h '#include <apr.h>'
    first src/pg/pg.c '#include "us_flow.h"'
}
breaks layers 'src/pg/pg.c includes us_flow.h: one of them has no room' homeless
# shellcheck disable=SC2317
deeper() {
    mkdir src/pg/sub
    last src/pg/sub/y.h '#include "us_users.h"'
}
breaks layers 'src/pg/sub/y.h is not in a room' deeper
breaks layers 'two rooms have a users.c' last src/base/users.c 'int us_new;'
# shellcheck disable=SC2317
new_room() {
    mkdir src/attic
    last src/attic/old.c '#include "us_log.h"'
}
breaks layers 'src/attic/old.c is in a room without a line' new_room
breaks layers 'includes us_new.h, which there is not' \
    first src/doors/sign_in.c '#include "us_new.h"'
breaks layers 'src/supabase/answer.c may not include curl/curl.h' \
    first src/supabase/answer.c '#include <curl/curl.h>'
breaks layers 'src/supabase/answer.c may not include json-c/json.h' \
    first src/supabase/answer.c '#include <json-c/json.h>'
breaks layers 'src/users/store.c may not include libpq-fe.h' \
    first src/users/store.c '#include <libpq-fe.h>'
breaks layers 'mod_usersync.c may not include mod_dbd.h' \
    first mod_usersync.c '#include <mod_dbd.h>'
breaks layers 'src/config/secret.c may not include openssl/evp.h' \
    first src/config/secret.c '#include <openssl/evp.h>'
breaks layers 'src/users/store.c knows request_rec' \
    last src/users/store.c 'static request_rec *forbidden;'

breaks exports 'there is no .libs/mod_usersync.so' \
    rm -f .libs/mod_usersync.so
breaks exports 'exports: us_leak usersync_module' \
    library 'int usersync_module; int us_leak;'
breaks exports 'exports: other_module' library 'int other_module;'

breaks directives 'conf/usersync.conf lacks UserSyncTimeout' \
    edit conf/usersync.conf '/^ *#UserSyncTimeout /d'
breaks directives 'conf/usersync.conf lacks UserSyncTimeout' \
    edit conf/usersync.conf 's/#UserSyncTimeout /# UserSyncTimeout /'
breaks directives 'docs/directives.md lacks UserSyncTable' \
    edit docs/directives.md '/^### UserSyncTable$/d'
breaks directives 'src/config/options.h lacks UserSyncEnsureHeaders' \
    edit src/config/options.h 's/"UserSyncEnsureHeaders", flag/NULL, part/'
breaks directives 'src/config/options.h has twice: UserSyncEnsure' \
    edit src/config/options.h 's/"UserSyncEnsureHeaders"/"UserSyncEnsure"/'
breaks directives 'docs/gate.md speaks of UserSyncEnsured' \
    last docs/gate.md 'See UserSyncEnsured.'
breaks directives 'README.md speaks of UserSyncPhantom' \
    last README.md 'See UserSyncPhantom.'
breaks directives 'README.md speaks of UserSyncTimeuot' \
    last README.md 'See UserSyncTimeuot.'
breaks directives 'usersync-example.conf speaks of UserSyncURL' \
    last conf/usersync-example.conf 'UserSyncURL https://x.example'
breaks directives 'conf/usersync.conf has UserSyncGone' \
    last conf/usersync.conf '#UserSyncGone On'
breaks directives 'conf/usersync.conf lacks UserSyncNew' \
    edit src/config/directives.c \
    's/^    {NULL}}/    AP_INIT_TAKE1("UserSyncNew", set_url, NULL, 0, ""),\n&/'
breaks directives 'twice in the table: UserSyncProxy' \
    edit src/config/directives.c \
    's/^    {NULL}}/    AP_INIT_TAKE1("UserSyncProxy", set_url, NULL, 0, ""),\n&/'

breaks routes 'does not begin with usersync-' \
    edit include/usersync.h 's/"usersync-login"/"usync-login"/'
breaks routes 'US_ROUTES is empty' \
    edit include/usersync.h 's/define US_ROUTES/define US_ROADS/'
breaks routes 'README.md does not name usersync-login' \
    edit README.md '/usersync-login/d'
breaks routes 'docs/routes.md does not name usersync-register' \
    edit docs/routes.md 's/usersync-register/usersync-new/'

for name in strcpy strcat sprintf gets strtok atoi atol system popen alloca; do
    breaks banned 'src/base/new.c:1: a banned call' \
        last src/base/new.c "int x = (int)$name (y);"
done
breaks banned 'a // comment' last src/base/json.c 'int x; // comment'
breaks banned 'src/base/new.c:1: a tab' last src/base/new.c "$(printf '\tint x;')"
breaks banned 'more than 80 columns' \
    last include/usersync.h "$(printf '/*%079d*/' 0)"
breaks banned 'src/base/new.c has 601 lines' repeat 601 'int x;' src/base/new.c
breaks banned 'or a blank at the end of the line' last src/base/json.c 'int x; '

# words or URLs in texts and comments are neither calls nor comments
long_function() {
    last src/base/new.c '{'
    repeat "$1" '    x();' src/base/new.c
    last src/base/new.c '}'
}
breaks banned 'a function that is too long' long_function 59

harmless() {
    last src/base/new.c '/* strcpy(a, b); // see http://x.example */'
    last src/base/new.c 'const char *s = "system(1) // \"no\" comment";'
    last src/base/new.c 'int x = apr_strtok(1) + my.system(2) + p->gets(3);'
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
