# shellcheck shell=sh
# shellcheck disable=SC2154 # The client sets, in front of this text: follow, lines, re and others.
#
# Sends the lines of a unit's journal, and in between the cursors behind which another run of this
# script can go on.
#
# The client puts in front of this text:
#
#   follow=1, or empty     whether what is written later is sent too
#   lines=NUMBER           lines from before that are sent; empty: all
#   re=TEXT                an extended regular expression; lines that do not match stay here
#   has_pattern=1, or empty    whether re counts
#   cursor=TEXT            where an earlier run was; empty: nowhere
#   given=NUMBER           lines behind the cursor that the client has
#   since=TEXT             a time as journalctl takes it, or empty
#   set -- --unit=NAME...
#
# What is sent, each a line: a line of the journal as journalctl writes it, which begins with a
# time or with a blank, or one of
#
#   -- cursor: CURSOR      what came before ends there
#   -- ops: since TIME     what a length of time before now came to
#   -- ops: missing        this server has no journalctl
#   -- ops: closed         this user sees no journal of the system
#   -- ops: pattern        re is no extended regular expression
#   -- ops: status N       journalctl ended so, after it had written on its error output why
#   -- ops: end            all has been sent

LC_ALL=C.UTF-8
export LC_ALL

if ! command -v journalctl >/dev/null 2>&1; then
    echo "-- ops: missing"
    exit 1
fi

# Its own lines always pass.
if [ -z "$has_pattern" ]; then
    match() { cat; }
else
    match() { grep -a --line-buffered -E -e "$re" -e "^-- (cursor|ops): "; }
    status=0
    echo | match >/dev/null || status=$?
    if [ "$status" -gt 1 ]; then
        echo "-- ops: pattern"
        exit 1
    fi
fi

# Whoever may read none of the system's files is shown the journal of his own programs, and not
# told so: --quiet takes that word away with all others.
is_closed=1
for file in /var/log/journal/*/system*.journal /run/log/journal/*/system*.journal; do
    [ ! -r "$file" ] || is_closed=
done
# Where there are none, journalctl says what it will.
if [ -n "$is_closed" ] && [ "$(id -u)" != 0 ]; then
    for folder in /var/log/journal/* /run/log/journal/*; do
        if [ -d "$folder" ]; then
            echo "-- ops: closed"
            break
        fi
    done
fi

# read_journal ARGUMENT…: all that there is now, the cursor behind that, and how it ended.
read_journal() {
    journalctl --no-pager --quiet --output=short-iso --show-cursor "$@"
    echo "-- ops: status $?"
}

# read_first ARGUMENT…: from where the client is, or as it has asked.
read_first() {
    [ -z "$since" ] || set -- "$@" --since="$since"
    if [ -n "$cursor" ]; then
        read_journal "$@" --after-cursor="$cursor" | match | tail -n "+$((given + 1))"
    elif [ -z "$lines" ]; then
        # From the same time on the journal has the same lines.
        read_journal "$@" | match | tail -n "+$((given + 1))"
    elif [ -z "$has_pattern" ]; then
        read_journal "$@" --lines="$lines" | match
    else
        # The last lines that match. Behind them come two of our own.
        read_journal "$@" | match | tail -n "$((lines + 2))"
    fi
}

case "$since" in
-[0-9]*s)
    since=${since#-}
    since=@$(($(date +%s) - ${since%s}))
    echo "-- ops: since $since"
    ;;
esac

if [ -z "$follow" ]; then
    read_first "$@"
    echo "-- ops: end"
    exit 0
fi

# pass_on: sends what it reads, and prints the last cursor among it.
pass_on() { tee /dev/fd/3 | sed -n "s/^-- cursor: //p" | tail -n 1; }

# Reads whenever there is something: the follower wakes it, and writes no cursors itself. It shows
# one line from before, so that it wakes for what came while it was being started too.
follow_journal() {
    # A unit that has written nothing yet has no cursor: that of the whole journal stands for it.
    # It is taken before the first look, so that nothing falls in between.
    behind=$cursor
    [ -n "$behind" ] || behind=$(journalctl --quiet --no-pager --output=cat --lines=1 --show-cursor |
        sed -n "s/^-- cursor: //p")
    now=$(read_first "$@" | pass_on)
    if [ -n "$now" ]; then
        behind=$now
    elif [ -n "$behind" ]; then
        echo "-- cursor: $behind" >&3
    fi
    while [ "$(dd bs=65536 count=1 2>/dev/null | wc -c)" -gt 0 ]; do
        if [ -n "$behind" ]; then
            now=$(read_journal "$@" --after-cursor="$behind" | match | pass_on)
        else
            now=$(read_journal "$@" | match | pass_on)
        fi
        [ -z "$now" ] || behind=$now
        sleep 0.2 2>/dev/null || sleep 1
    done
}

journalctl --no-pager --quiet --output=cat --follow --lines=1 "$@" 2>/dev/null | follow_journal "$@" 3>&1
