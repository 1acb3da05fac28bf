# shellcheck shell=sh
#
# Writes a file, or a share of one, to standard output. Stands behind tools.sh and enter.sh.
#
# Set before: root, folders, file and follow, which name it (see enter.sh); codec, the program that
# may compress, or empty. Descriptor 6 takes messages, a line each:
#
#   z CODEC          what follows on standard output is compressed
#   sha HASH         of the file, as it was listed
#   whole            the file was read to its end, wherever that is
#   grown SIZE HASH  what it is by now, and its hash
#
# No single quote may stand here: one pair of them holds it all.
#
# shellcheck disable=SC2154 # Set before, see above.

# Compression is tried on so many bytes, and has to gain a fifth.
sample_bytes=262144

tell() { printf "!%s\n" "$1" >&6; }

refuse() {
    echo "$1" >&2
    exit 1
}

# go_to_file: to its folder; the file is ./NAME then.
go_to_file() {
    enter "$root" "$folders" || refuse "$why"
    file=./$file
    if [ "$follow" != 1 ] && [ -h "$file" ]; then
        refuse "it is a link now, which is not followed"
    fi
}

# choose_compressor SIZE: sets $compressor, which is empty where compression does not pay.
choose_compressor() {
    compressor=
    [ -n "$codec" ] || return 0
    sample=$1
    [ "$sample" -lt "$sample_bytes" ] || sample=$sample_bytes
    packed=$(dd if="$file" bs=65536 count=4 2>/dev/null | head -c "$sample" | "$codec" -1 -c | wc -c)
    if [ $((packed * 10)) -lt $((sample * 8)) ]; then
        compressor="$codec -1 -c"
        tell "z $codec"
    fi
}

# compress: standard input to standard output.
compress() {
    if [ -n "$compressor" ]; then
        # Its words are a command and options.
        # shellcheck disable=SC2086
        $compressor
    else
        cat
    fi
}

read_to_end() { cat <"$file" && tell whole; }

# opens_descriptors: whether a program can open a descriptor of a pipe by its name. The pipes of
# ksh93 are sockets, which nothing opens, and some systems have no /dev/fd.
opens_descriptors() {
    [ "$({ echo yes | tee /dev/fd/7 7>&7 2>/dev/null >/dev/null; } 7>&1 | cat)" = yes ]
}

# fetch_whole: the file as it is read, once: those of /proc and /sys do not say their size, and may
# hold something else the next time. It is hashed on its way by a second pipe.
fetch_whole() {
    if [ -z "$hash_stream" ]; then
        read_to_end | compress
    elif opens_descriptors; then
        exec 8>&1
        # tee writes to the substitution by name, compress to the real output. ksh gives a
        # descriptor above 2 to a program only where it is named beside it.
        sum=$({ read_to_end | tee /dev/fd/7 7>&7 | compress >&8; } 7>&1 | hash_input)
        exec 8>&-
        tell "sha $sum"
    else
        # The file is read twice.
        read_to_end | compress
        tell "sha $(hash_input <"$file")"
    fi
}

# copy_range OFFSET LENGTH
copy_range() {
    if [ "$1" = 0 ]; then
        head -c "$2" <"$file"
    else
        tail -c +"$(($1 + 1))" <"$file" | head -c "$2"
    fi
}

# copy_parts PART BLOCK STRIDE LAST LENGTH: from a block of a part on, every STRIDE-th part of 8 MiB
# up to
# LAST, of which LENGTH bytes.
copy_parts() {
    part=$1
    block=$2
    while [ "$part" -lt "$4" ]; do
        dd if="$file" bs=1048576 skip=$((part * 8 + block)) count=$((8 - block)) 2>/dev/null
        block=0
        part=$((part + $3))
    done
    # dd would go on to the end of a file that has grown since it was listed.
    dd if="$file" bs=1048576 skip=$((part * 8 + block)) 2>/dev/null | head -c "$5"
}

# hash_beside SIZE: tells the hash of the first SIZE bytes, while they are sent.
hash_beside() {
    { tell "sha $(head -c "$1" <"$file" | hash_input)"; } &
}

# copy_growth SIZE OFFSET: what a file listed with SIZE bytes has behind OFFSET by now.
copy_growth() {
    # find asks for the size alone; some programs would read all of the file to count it.
    [ -n "$(find -H "$file" -prune -size +"$1"c 2>/dev/null)" ] || return 0
    end=$(($(wc -c <"$file")))
    tail -c +"$(($2 + 1))" <"$file" | head -c $((end - $2))
    tell "grown $end $(head -c "$end" <"$file" | hash_input)"
}
