# What t/openapi/install and t/clients/install share: fetching packages of fixed
# versions from PyPI and npm into a directory, once. When a registry cannot be
# reached it says so, and so do the tests.
#
#   provide_packages ../../build/example
#
# Takes requirements.txt, and package.json with package-lock.json, from the
# current directory. npm's are left out where npm is not on the machine.

dir=
python=/usr/bin/python3

# What was fetched for: other versions, or another Python, are fetched anew.
stamp() { # command, files
    { "$1" --version && sha256sum "${@:2}"; } 2>&1
}

fetch_python() {
    "$python" -m pip --version >/dev/null 2>&1 || {
        echo 'there is no pip for /usr/bin/python3: t/install-deps test'
        return 1
    }
    "$python" -m pip install --quiet --disable-pip-version-check \
        --no-input --no-deps --no-compile --only-binary :all: \
        --target "$dir/python.new" -r requirements.txt
}

fetch_node() {
    mkdir -p "$dir/node.new"
    cp package.json package-lock.json "$dir/node.new/"
    npm ci --prefix "$dir/node.new" --no-audit --no-fund --ignore-scripts \
        --loglevel error
}

# Fetches a part if it is not there; on failure leaves the reason.
provide() { # part, registry, command, files
    local part=$1 registry=$2 now
    now=$(stamp "${@:3}")
    [[ "$(cat "$dir/$part/stamp" 2>/dev/null)" != "$now" ]] || return 0
    rm -rf "${dir:?}/$part" "$dir/$part.new"
    mkdir -p "$dir"
    if "fetch_$part" >"$dir/said" 2>&1; then
        printf '%s\n' "$now" >"$dir/$part.new/stamp"
        mv "$dir/$part.new" "$dir/$part"
        rm -f "$dir/$part.failed"
    else
        rm -rf "${dir:?}/$part.new"
        {
            printf '%s cannot be reached, or lacks a package:\n' "$registry"
            tail -n 5 "$dir/said"
        } | tee "$dir/$part.failed" >&2
    fi
    rm -f "$dir/said"
}

provide_packages() { # directory
    dir=$1
    provide python PyPI "$python" requirements.txt
    if command -v npm >/dev/null; then
        provide node 'The npm registry' npm package.json package-lock.json
    fi
}
