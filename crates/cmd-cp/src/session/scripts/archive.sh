# shellcheck shell=sh
#
# Writes many small files to standard output: their hashes, a line each, then an empty line and a
# tar archive of them. Stands behind tools.sh and enter.sh.
#
# Set before: root, the folder that all names are told from; tar_options; compressor, or empty; and
# the function each_folder, which calls the function that it is given with a folder, as a format of
# printf that ends in a slash or is empty, and its names, as words for %b.
#
# No single quote may stand here: one pair of them holds it all.
#
# shellcheck disable=SC2154 # Set before, see above.

refuse() {
    echo "$why" >&2
    exit 1
}

# print_names FOLDER NAME…: paths from the root on, each ended by a NUL.
print_names() {
    format=$1
    shift
    # The folder stands in the format: one call of printf for all of its names.
    # shellcheck disable=SC2059
    printf "./$format%b\000" "$@"
}

# check_folder FOLDER NAME…: goes down to a folder, so that a link in the place of one ends it all:
# each file is then asked for by itself.
check_folder() {
    # The full stop keeps line feeds at the end of a name.
    # shellcheck disable=SC2059
    folders=$(printf "$1.")
    folders=${folders%.}
    enter "$root" "${folders%/}" || refuse
}

# hash_names: of files that can be read. In front of a hash sha256sum marks with a backslash that it
# has escaped the name.
hash_names() {
    # The words of the command are split on purpose.
    # shellcheck disable=SC2086
    each_folder print_names | xargs -0 $hash_files 2>/dev/null | sed "s/^\\\\//" | cut -c1-64
}

# compress: standard input to standard output.
compress() {
    if [ -n "$compressor" ]; then
        # shellcheck disable=SC2086
        $compressor
    else
        cat
    fi
}

# send_archive CHECK: 1 where folders may hold links that must not be followed.
send_archive() {
    enter "$root" "" || refuse
    # In a subshell, since it changes the folder.
    if [ "$1" = 1 ]; then
        (each_folder check_folder) || exit 1
    fi
    {
        [ -z "$hash_files" ] || hash_names
        echo
        each_folder print_names | tar --null -T - "$tar_options" -
    } | compress
}
