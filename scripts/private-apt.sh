# Sourced by the scripts that fetch Debian packages: apt with a state folder of its own and one foreign architecture, so
# that the packages and lists of the running system stay as they are. The mirror is the one of the system's own sources.
#
# The caller defines die and sets `state`, an empty or earlier state folder.
# shellcheck shell=bash

# Every (URI, suite) of the system's sources, deb822 and one-line form, one pair per line.
system_sources() {
    local etc main parts f
    etc=$(apt-config shell v Dir::Etc/d) && eval "${etc:-v=/etc/apt}" && etc=$v
    main=$(apt-config shell v Dir::Etc::SourceList/f) && eval "${main:-v=$etc/sources.list}" && main=$v
    parts=$(apt-config shell v Dir::Etc::SourceParts/d) && eval "${parts:-v=$etc/sources.list.d}" && parts=$v
    for f in "$main" "$parts"/*.list "$parts"/*.sources; do
        [[ -r $f ]] || continue
        if [[ $f == *.sources ]]; then
            awk '
                function flush(   i, j) {
                    if (types ~ /(^| )deb( |$)/ && enabled !~ /^(no|false|off|0)$/)
                        for (i = 1; i <= split(uris, u, " "); i++)
                            for (j = 1; j <= split(suites, s, " "); j++) print u[i], s[j]
                    types = uris = suites = enabled = field = ""
                }
                /^#/ { next }
                /^[ \t]*$/ { flush(); next }
                /^[ \t]/ { value = $0 }
                /^[^ \t]/ { field = tolower($0); sub(/:.*/, "", field); value = $0; sub(/^[^:]*:/, "", value) }
                { gsub(/[ \t\r]+/, " ", value); sub(/^ /, "", value); sub(/ $/, "", value) }
                field == "types" { types = types " " value }
                field == "uris" { uris = uris " " value }
                field == "suites" { suites = suites " " value }
                field == "enabled" { enabled = tolower(value) }
                END { flush() }' "$f"
        else
            sed -n -e 's/#.*//' -e 's/^[[:space:]]*deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^[:space:]]\{1,\}\)[[:space:]]\{1,\}\([^[:space:]]\{1,\}\).*/\2 \3/p' "$f"
        fi
    done
}

# The main archive is the entry whose suite is a plain Debian release (security and backports live elsewhere).
find_mirror() {
    mirror=${CLOISTER_DEBIAN_MIRROR-}
    if [[ -z $mirror ]]; then
        mirror=$(system_sources | awk '$2 ~ /^(buster|bullseye|bookworm|trixie|forky|sid|stable|testing|unstable|oldstable)$/ { print $1; exit }')
    fi
    [[ -n $mirror ]] || die "the system's apt sources name no Debian archive: set CLOISTER_DEBIAN_MIRROR to the URI of one"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ -r $keyring ]] || die "$keyring is missing: install debian-archive-keyring"
}

# use_suite SUITE: point the private apt at one suite and read its list. Fails when the list cannot be verified.
apt_options=()
use_suite() {
    local dir=$state/$1
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/debs" "$dir/none"
    : >"$dir/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$1" >"$dir/sources.list"
    apt_options=(
        -o APT::Architecture=s390x -o APT::Architectures=s390x -o APT::Sandbox::User=
        -o "Dir::State=$dir" -o "Dir::State::status=$dir/status" -o "Dir::State::Lists=$dir/lists"
        -o "Dir::Cache=$dir/cache" -o "Dir::Etc::SourceList=$dir/sources.list" -o "Dir::Etc::SourceParts=$dir/none"
        -o Dir::Etc::Preferences=/dev/null -o "Dir::Etc::PreferencesParts=$dir/none"
        -o APT::Get::List-Cleanup=false -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any
    )
    apt-get "${apt_options[@]}" update -qq
}

# newest_kernel PREFIX: what the meta package linux-image-s390x depends on now.
newest_kernel() {
    apt-cache "${apt_options[@]}" depends linux-image-s390x |
        sed -n "s/^ *Depends: \\(linux-image-$1[0-9.+a-z~-]*-s390x\\)\$/\\1/p" | head -n 1
}
