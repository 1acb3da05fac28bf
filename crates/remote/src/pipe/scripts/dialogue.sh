# shellcheck shell=sh
#
# Takes a script from a terminal in raw mode and runs it there: it reads lines and bytes, and
# answers by say NUMBER TEXT. It finds the folder $private of keeper.sh or join.sh.
#
# Messages: ready        the terminal is in raw mode
#           NUMBER TEXT  an answer
#           status N     the status of the script
# Lines that are no messages are what the script complains about.
#
# No single quote may stand here: the text travels between a pair of them.
#
# shellcheck disable=SC2329 # The script says what it says.

cd "$HOME" 2>/dev/null || cd /
stty raw -echo || exit 1
# What the script writes anywhere else is a complaint. Answers have a descriptor of their own.
exec 8>&1 2>&1

# The fast way of join.sh first, where there is one: the terminal's is the one that survives a lost
# connection. The numbers tell the client which answers came already.
say() {
    {
        [ -z "$joined" ] || printf "!%s %s\n" "$1" "$2" >&7 2>/dev/null
        printf "!%s %s\n" "$1" "$2"
    } >&8
}

[ -z "$joined" ] || printf "!ready\n" >&7
printf "!ready\n"
script=
# read takes a byte at a time from a terminal, so that what follows the script is left for the
# script itself. A script of which the end is missing is never run.
while IFS= read -r line || exit 1; do
    [ "$line" != . ] || break
    script="$script$line
"
done
(eval "$script")
printf "!status %s\n" "$?"
