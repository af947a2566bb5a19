# Shared by the guards. A guard checks the tree that it is in, or another one:
#
#   t/guards/NAME.sh [DIRECTORY]
#
# It prints TAP, one line for all that it looked at, and exits with 0 if it
# found nothing. self-test.sh shows that each of them can find something.
set -euo pipefail
export LC_ALL=C.UTF-8

cd "${1:-$(dirname "${BASH_SOURCE[0]}")/../..}"

guard=$(basename "$0" .sh)
findings=0

# Reports one problem: TEXT...
found() {
    printf '# %s\n' "$*"
    findings=$((findings + 1))
}

# Ends the guard: TEXT is what is true if nothing was found.
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
    printf '%s\n' mod_usersync.c src/*/*.[ch] include/*.h
}

# The C files of the programs beside it.
support_files() {
    find support -name '*.[ch]' 2>/dev/null | sort
}

# C files without their comments and the content of their literals, each line
# as FILE:NUMBER:CODE. "//" is kept: nothing else would show it.
code_of() {
    perl -0777 -ne '
        s{(/\*.*?\*/)|("(?:\\.|[^"\\\n])*")|(\x27(?:\\.|[^\x27\\\n])*\x27)}
         { my $c = $1; defined $c ? $c =~ s/[^\n]+/ /gr
               : defined $2 ? q("") : "0" }gsex;
        my $n = 0;
        print map { $n++; "$ARGV:$n:$_\n" } split /\n/' "$@"
}
