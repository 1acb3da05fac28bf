# shellcheck shell=sh
#
# Describes files where find has no -printf, for find -exec: sh -c THIS ROOT FOLLOW NAME…. Of each a
# record "x MODE SIZE TIME NAME", the mode in hexadecimal digits, and the target of a link; both
# ended by a NUL. ROOT is $0; FOLLOW is -H, -L or -P, as for find. No single quote may stand here.
follow=$1
shift
for name; do
    # GNU and busybox, then BSD.
    if [ "$follow" = -L ] || { [ "$follow" = -H ] && [ "$name" = "$0" ]; }; then
        # A match that is a link is looked through by find, and so must be here.
        about=$(stat -L -c "%f %s %Y" "$name" 2>/dev/null || stat -L -f "%Xp %z %m" "$name") || continue
    else
        about=$(stat -c "%f %s %Y" "$name" 2>/dev/null || stat -f "%Xp %z %m" "$name") || continue
    fi
    target=
    if [ -h "$name" ]; then
        # The full stop keeps line feeds at the end of a target; readlink adds one of its own.
        target=$(
            readlink "$name"
            echo .
        )
        target=${target%??}
    fi
    printf "x %s %s\000%s\000" "$about" "$name" "$target"
done
