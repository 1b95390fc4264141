#!/bin/bash
# A real `systemd --user`, with the system's journal, in namespaces of its own: nothing of it is seen outside, and
# all of it dies with the first process. Runs as root. Started by usermanager.py:
#
#     unshare --mount --pid --fork --mount-proc --kill-child usermanager.sh HOME NAME
#
# Says "ready" on stdout when systemctl can be used. Then each line on stdin is a file name: FILE is run with bash as
# a person's shell would, its output goes to FILE.out and FILE.err, and its exit code is said on stdout.
# "!restart" instead ends the manager and starts another one, as a reboot does. The end of stdin ends everything.
set -euo pipefail
home=$1 name=$2 user=$(id -u)
export LC_ALL=C.UTF-8
runtime=/run/user/$user

mount --make-rprivate /
# A file system that a test beside this one has mounted would go on living here when it is unmounted there.
awk '$(NF-1) ~ "^/dev/loop" {print $5}' /proc/self/mountinfo | tac | xargs -r -d '\n' umount -l || true
# A mount of its own, or what a unit's sandbox puts over /run would hide the manager's sockets.
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/systemd/{system,journal,users,unit-root,propagate,incoming} /run/lock "$runtime"
mount -t tmpfs -o mode=700 user "$runtime"
# What is bound over paths that a unit may not see; on a real machine process 1 makes them.
blind=/run/systemd/inaccessible
mkdir -m 000 -p "$blind" "$blind/dir"
(umask 777 && : >"$blind/reg" && mkfifo "$blind/fifo" && mknod "$blind/chr" c 0 0 && mknod "$blind/blk" b 0 0)
# The journal of this manager alone: what the machine logs is neither read nor written.
mount -t tmpfs -o mode=755 log /var/log
mkdir -p "/run/log/journal/$(cat /etc/machine-id)"
# One hierarchy of control groups, as the manager wants it; a leaf of it is ours.
umount -R /sys/fs/cgroup 2>/dev/null || umount -l -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
leaf=/sys/fs/cgroup/convsync-$name.slice
group=$leaf/user-$user.slice/user@$user.service  # by these names the journal knows whose unit wrote a line
mkdir "$leaf"

journald=$(ls /lib/systemd/systemd-journald /usr/lib/systemd/systemd-journald 2>/dev/null | head -n 1)
"$journald" </dev/null >/dev/null 2>&1 &
# Whoever runs the tests owns the files, so the person is root, too, but without what makes root special. (setfcap is
# what the kernel asks for before root may be mapped into a user namespace, which the unit has.)
person=(setpriv --bounding-set=-all,+setfcap --inh-caps=-all env -i "HOME=$home" "XDG_RUNTIME_DIR=$runtime" PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
  "LC_ALL=$LC_ALL" SYSTEMD_PAGER= NO_COLOR=1)

wait_for() {
  for _ in $(seq 3000); do
    [ -S "$1" ] && return
    sleep 0.02
  done
  echo "never: $1" >&2
  exit 1
}

manager=
boot() {
  mkdir -p "$group"
  (
    echo "$BASHPID" >"$group/cgroup.procs"
    exec "${person[@]}" "$(ls /lib/systemd/systemd /usr/lib/systemd/systemd 2>/dev/null | head -n 1)" --user \
      </dev/null >>"$home/manager.log" 2>&1
  ) &
  manager=$!
  wait_for "$runtime/systemd/private"
}

finish() {
  trap - EXIT
  kill -TERM "$manager" 2>/dev/null && wait "$manager" 2>/dev/null
  find "$leaf" -depth -type d -exec rmdir {} \; 2>/dev/null || true
}
trap finish EXIT

wait_for /run/systemd/journal/stdout
boot
echo ready
while read -r line; do
  if [ "$line" = '!restart' ]; then
    kill -TERM "$manager"
    wait "$manager" || true
    rm -rf "$runtime/systemd"
    boot
    echo 0
    continue
  fi
  code=0
  (cd "$home" && exec "${person[@]}" bash "$line" </dev/null >"$line.out" 2>"$line.err") || code=$?
  echo "$code"
done
