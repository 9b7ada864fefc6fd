#!/usr/bin/env bash
# A throw-away Slurm on this host, as root, without systemd or cgroups: for tests.
#   slurm_ci.sh start DIR [NODES=4] [PORT=16800] [MAX_ARRAY_SIZE=1001]     then export SLURM_CONF=DIR/slurm.conf
#   slurm_ci.sh controller DIR                                             starts slurmctld again, after it was killed
#   slurm_ci.sh stop DIR
# Needs Debian's packages slurm-wlm and munge.
set -euo pipefail
command=${1:?start, controller or stop} dir=${2:?a scratch folder}
nodes=${3:-4} port=${4:-16800} max_array_size=${5:-1001}
export SLURM_CONF=$dir/slurm.conf

# Process 1 of a container may reap nobody: a zombie counts as dead.
alive() { [ -n "${1:-}" ] && [ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
stop_pid() {
  local pid
  pid=$(cat "$1" 2>/dev/null || true)
  alive "$pid" || return 0
  kill "$pid"
  for _ in {1..50}; do alive "$pid" || return 0; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
}

case $command in
start)
  mkdir -p "$dir"/{munge,state,spool,log,run/munge}
  chmod 755 "$dir" "$dir/run/munge" && chmod 700 "$dir/munge"
  head -c 128 /dev/urandom >"$dir/munge/key" && chmod 400 "$dir/munge/key"
  munged --socket="$dir/run/munge/sock" --key-file="$dir/munge/key" --pid-file="$dir/run/munge/pid" \
    --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" --num-threads=2
  host=$(hostname -s)
  cat >"$SLURM_CONF" <<CONF
ClusterName=ci
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued task starts again when its credential has expired; Slurm's default is 120 s.
AuthInfo=socket=$dir/run/munge/sock,cred_expire=5
CredType=cred/munge
SlurmctldPort=$port
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmdLogFile=$dir/log/slurmd.%n.log
SlurmdSpoolDir=$dir/spool/%n
StateSaveLocation=$dir/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout=5
MessageTimeout=4
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,defer_batch
KillWait=1
JobRequeue=1
MaxArraySize=$max_array_size
AccountingStorageType=accounting_storage/none
CONF
  for i in $(seq "$nodes"); do
    mkdir -p "$dir/spool/n$i"
    echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=$(nproc) State=UNKNOWN" >>"$SLURM_CONF"
  done
  echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >>"$SLURM_CONF"
  slurmctld
  for i in $(seq "$nodes"); do slurmd -N "n$i"; done
  for _ in {1..100}; do
    [ "$(sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | wc -l)" = "$nodes" ] && exit 0
    sleep 0.1
  done
  echo "the nodes are not idle after 10 s" >&2
  tail -n 5 "$dir"/log/*.log >&2
  exit 1
  ;;
controller)
  slurmctld
  for _ in {1..100}; do scontrol ping 2>/dev/null | grep -q 'is UP' && exit 0; sleep 0.1; done
  exit 1
  ;;
stop)
  timeout 5 scancel --user=root 2>/dev/null || true
  for _ in {1..50}; do [ -z "$(timeout 5 squeue --noheader 2>/dev/null)" ] && break; sleep 0.1; done
  for file in "$dir"/run/slurmd.*.pid "$dir/run/slurmctld.pid" "$dir/run/munge/pid"; do stop_pid "$file"; done
  ;;
esac
