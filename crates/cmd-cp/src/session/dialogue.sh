x() { v=$(printf "%b." "$1"); v=${v%.}; }
flat() { printf "%s" "$1" | tr "\n" " " | head -c 2000; }
ok() { say "$q" ok; }
no() { say "$q" "no $(flat "$1")"; }
lost() { say 999999999999 "lost $(flat "$1")"; exit 1; }
keep() { printf "%s\n" "$1" >"$d/t"; }
free() { : >"$d/t"; }
at() { x "$1"; p=$v; x "$2"
if [ -h "$p" ]; then r=$(readlink -f "$p" 2>/dev/null; echo .); r=${r%??}; [ -z "$r" ] || p=$r; fi
t=${p%/*}/$v; }
go() { dd bs=1048576 seek="$1" count=0 conv=notrunc </dev/null 2>/dev/null; }
set -f
while IFS= read -r L; do
set -- $L
q=$1; shift
case "$1" in
d) x "$2"
if [ -d "$v" ]; then ok
elif e=$(mkdir "$v" 2>&1); then chmod "$3" "$v" 2>/dev/null; say "$q" "ok new"; else no "$e"; fi ;;
l) x "$2"; p=$v; x "$3"
if [ -d "$p" ] && [ ! -h "$p" ]; then no "$p is a folder"
elif e=$( { [ ! -h "$p" ] && [ ! -e "$p" ] || rm -f "$p"; } 2>&1 && ln -s -- "$v" "$p" 2>&1); then ok; else no "$e"; fi ;;
b) at "$2" "$3"; K=$4
if [ -d "$p" ]; then no "$p is a folder"
elif [ "$K" = 1 ] && [ -f "$t" ] && [ ! -h "$t" ]; then a=; [ "$5" = 0 ] || a=$(h <"$t"); say "$q" "have $(wc -c <"$t" | tr -d " ") $a"
else [ "$K" = 1 ] || keep "$t"
if e=$( (umask 077; set -C; : >"$t") 2>&1); then ok; else free; no "$e"; fi; fi ;;
o) at "$2" "$3"; K=$4
if [ -f "$t" ] && [ ! -h "$t" ]; then [ "$K" = 1 ] || keep "$t"; ok; else no "$t is gone"; fi ;;
f) free; ok ;;
W) if [ "$3" = - ]; then e=$( { go "$4" && head -c "$2"; } 2>&1 1<>"$t") || lost "$e"
else e=$( { go "$4" && head -c "$2" | "$3" -dc; } 2>&1 1<>"$t") || lost "$e"; fi
say "$q" "credit $2" ;;
R) a=; i=$2; n=$3
while [ "$n" -gt 0 ]; do a="$a $(dd if="$t" bs=1048576 skip="$((i * 8))" count=8 2>/dev/null | h)"; i=$((i + 1)); n=$((n - 1)); done
say "$q" "sum$a" ;;
r) if e=$( (: >"$t") 2>&1); then ok; else no "$e"; fi ;;
w) if [ "$3" = - ]; then e=$(head -c "$2" 2>&1 >>"$t") || lost "$e"
else e=$( { head -c "$2" | "$3" -dc >>"$t"; } 2>&1) || lost "$e"; fi
say "$q" "credit $2" ;;
x) [ "$K" = 1 ] || rm -f "$t"; free; ok ;;
e) s=$(wc -c <"$t" | tr -d " "); a=-
[ "$2" = - ] || a=$(h <"$t")
if [ "$s" != "$3" ] || [ "$a" != "$2" ]; then rm -f "$t"; free; no "what arrived is not what was sent"
else m=$5
if [ -f "$p" ]; then
[ "$4" = 1 ] || m=$(stat -c %a "$p" 2>/dev/null || stat -f %Lp "$p" 2>/dev/null || echo "$5")
[ "$(id -u)" != 0 ] || chown "$(stat -c %u:%g "$p" 2>/dev/null || stat -f %u:%g "$p")" "$t" 2>/dev/null
fi
if e=$( { chmod "$m" "$t" && { [ "$6" = - ] || TZ=UTC0 touch -t "$6" "$t"; } && mv -f "$t" "$p"; } 2>&1); then ok; else rm -f "$t"; no "$e"; fi
free; fi ;;
k) x "$2"
if [ "$3" = - ]; then a=$(h <"$v"); else a=$(head -c "$3" <"$v" | h); fi
printf "!sum %s\n" "$a" >&7 ;;
p) x "$2"
if command -v curl >/dev/null 2>&1; then
if [ "$5" = 1 ]; then e=$(curl -sS -f -g -o /dev/null -T "$v" -K - 2>&1 <<E
url = "$6"
E
) && ok || no "$e"
else e=$( { tail -c +"$(($3 + 1))" <"$v" | head -c "$4" | curl -sS -f -g -o /dev/null -T - -H "Transfer-Encoding:" -H "Content-Length: $4" -K /dev/fd/8; } 2>&1 8<<E
url = "$6"
E
) && ok || no "$e"; fi
elif [ "$5" = 1 ]; then e=$(wget -q -O /dev/null --method=PUT --body-file="$v" -i - 2>&1 <<E
$6
E
) && ok || no "$e"
else no "curl is needed for a file of this size"; fi ;;
g) if command -v curl >/dev/null 2>&1; then e=$( { curl -sS -f -g -K - >>"$t"; } 2>&1 <<E
url = "$2"
E
) && ok || no "$e"
else e=$( { wget -q -O - -i - >>"$t"; } 2>&1 <<E
$2
E
) && ok || no "$e"; fi ;;
a) x "$2"
if e=$( { chmod "$3" "$v" && { [ -z "$4" ] || TZ=UTC0 touch -t "$4" "$v"; }; } 2>&1); then ok; else no "$e"; fi ;;
s) x "$2"; S=$v; keep "$S"
if e=$(mkdir -m 700 "$S" 2>&1); then ok; else free; no "$e"; fi ;;
t) [ "$2" = m ] && o=xpmof || o=xpof
ok
{ while IFS= read -r n; do set -- $n
case "$2" in 0) exit 0 ;; esac
if [ "$3" = - ]; then head -c "$2"; else head -c "$2" | "$3" -dc; fi || exit 1
say "$1" "credit $2"; done; } | (cd "$S" && tar $o - ) >"$d/e" 2>&1 || lost "$(cat "$d/e")" ;;
i) [ "$2" = m ] && o=xpmof || o=xpof
z=cat; [ "$3" = - ] || z="$3 -dc"
if command -v curl >/dev/null 2>&1; then e=$(curl -sS -f -g -o "$d/a" -K - 2>&1 <<E
url = "$5"
E
) && a=$(h <"$d/a") || a=
else e=$(wget -q -O "$d/a" -i - 2>&1 <<E
$5
E
) && a=$(h <"$d/a") || a=; fi
if [ -z "$a" ]; then no "$e"
elif [ "$a" != "$4" ]; then no "what arrived is not what was sent"
elif e=$( { $z <"$d/a" | (cd "$S" && tar $o -); } 2>&1); then ok; else no "$e"; fi
rm -f "$d/a" ;;
u) ok ;;
v) say "$q" "sum $( (cd "$S" && find . -type f -exec $H {} +) | sed "s/^\\\\//" | cut -c1-64 | LC_ALL=C sort | h)" ;;
m) x "$2"; p=$v; x "$3"
if e=$( (cd "$S/$p" && find . ! -name . -prune ! -type d -exec sh -c "$M" "$v/" "$4" {} + ) 2>&1) && [ -z "$e" ]; then ok; else no "$e"; fi ;;
z) rm -rf "$S"; free; ok ;;
q) ok; exit 0 ;;
*) exit 1 ;;
esac
done
