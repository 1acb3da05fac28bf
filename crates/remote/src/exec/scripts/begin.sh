# shellcheck shell=sh
#
# Makes the private folder $d of a run, in the first place that takes it, and leaves $d empty where
# nothing can be written. The text of engine.sh goes where ENGINE stands.
#
# No single quote may stand here: the text travels between a pair of them.

# The client has given up already. This trap holds until attach, which this shell becomes, sets its
# own, so that there is no moment in which the signal would leave something behind.
abandon() {
    if [ -n "$d" ]; then
        sh "$d/engine" end "$d"
        rm -rf "$d"
    fi
    printf "\n!ended\n"
    exit 1
} 2>/dev/null
d=
trap abandon QUIT
cd "$HOME" 2>/dev/null || cd / || exit 1
mask=$(umask)
umask 077
for parent in "${TMPDIR:-/tmp}" /tmp /var/tmp /dev/shm "$HOME"; do
    d=$(mktemp -d "$parent/ops-exec.XXXXXX" 2>/dev/null) || continue
    # A disk that is full lets a folder be made, and nothing in it.
    {
        cat >"$d/engine" &&
            echo "$mask" >"$d/umask" &&
            mkfifo "$d/out" "$d/err" "$d/in" "$d/bell" "$d/feed" "$d/life"
    } 2>/dev/null <<\END_OF_ENGINE && break
ENGINE
END_OF_ENGINE
    rm -rf "$d"
    d=
done
