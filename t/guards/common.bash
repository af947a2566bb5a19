# Shared by the guards. A guard checks the tree it stands in, or another one:
#
#   t/guards/NAME.sh [DIRECTORY]
#
# It prints TAP, one line for all that it looked at, and ends with 0 when
# nothing was found. self-test.sh shows that each of them can find something.
set -euo pipefail
export LC_ALL=C.UTF-8

cd "${1:-$(dirname "${BASH_SOURCE[0]}")/../..}"

guard=$(basename "$0" .sh)
findings=0

# One thing that is wrong: TEXT...
found() {
    printf '# %s\n' "$*"
    findings=$((findings + 1))
}

# The last words: TEXT of what holds when nothing was found.
finish() {
    printf '1..1\n'
    if ((findings)); then
        printf 'not ok 1 - %s: %s\n' "$guard" "$*"
        exit 1
    fi
    printf 'ok 1 - %s: %s\n' "$guard" "$*"
}

# The module's C files.
module_files() {
    printf '%s\n' mod_usersync.c src/*.c include/*.h
}

# C files without their comments and the content of their literals, each line
# as FILE:NUMBER:CODE. "//" stays: nothing else would show it.
code_of() {
    perl -0777 -ne '
        s{(/\*.*?\*/)|("(?:\\.|[^"\\\n])*")|(\x27(?:\\.|[^\x27\\\n])*\x27)}
         { my $c = $1; defined $c ? $c =~ s/[^\n]+/ /gr
               : defined $2 ? q("") : "0" }gsex;
        my $n = 0;
        print map { $n++; "$ARGV:$n:$_\n" } split /\n/' "$@"
}
