# shellcheck shell=sh
#
# Moves files of the stage into place, for find -exec: sh -c THIS FOLDER EXACT NAME…, in the folder
# of the stage that holds the names. FOLDER, which ends in a slash, is $0. A link that has one of
# the names is replaced. Unless EXACT is 1, files that replace others take their modes, and from
# root their owners. No single quote may stand here: one pair holds it all.
exact=$1
shift
folder=$0

for name; do
    if [ ! -h "$folder$name" ] && [ ! -f "$folder$name" ] && [ -e "$folder$name" ]; then
        echo "$name is in the way" >&2
        exit 1
    fi
done

# Mode and owner of files, a line each; GNU and busybox, then BSD.
look() { stat -c "%a %u:%g" "$@" 2>/dev/null || stat -f "%Lp %u:%g" "$@" 2>/dev/null; }

# take_over NAME…: in a subshell, since it drops the names that replace nothing.
take_over() {
    count=$#
    for name; do
        [ -h "$folder$name" ] || [ ! -f "$folder$name" ] || set -- "$@" "$name"
    done
    shift "$count"
    [ $# != 0 ] || exit 0
    # Two processes for all of them: one for each would be most of the time that it takes.
    theirs=$(cd "$folder" && look "$@")
    ours=$(look "$@")
    [ "$theirs" != "$ours" ] || exit 0
    user=$(id -u)
    exec 7<<THEIRS 8<<OURS
$theirs
THEIRS
$ours
OURS
    for name; do
        read -r mode owner <&7
        read -r our_mode our_owner <&8
        if [ "$owner" != "$our_owner" ] && [ "$user" = 0 ]; then
            chown "$owner" "$name"
            # What chown takes from a mode is set again.
            our_mode=
        fi
        [ "$mode" = "$our_mode" ] || chmod "$mode" "$name"
    done
}

if [ "$exact" != 1 ]; then
    (take_over "$@")
fi
mv -f "$@" "$folder"
