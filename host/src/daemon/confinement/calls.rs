//! The filter of system calls (seccomp(2)).
//!
//! What is not listed fails with ENOSYS, as with a kernel that does not have it: libraries try another way then. That includes processes: a thread can be
//! made, a process cannot. What nobody calls by mistake ends the process at once ([`DEADLY`]): to run a program, to look into another process, to get into other
//! namespaces, to load code into the kernel. The lists are of Linux on x86-64 and aarch64; on other machines there is no filter, and the log says so.

use std::{collections::BTreeMap, env::consts::ARCH, process};

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter_all_threads,
};
use thiserror::Error;

/// Why there is no filter.
#[derive(Debug, Error)]
pub(super) enum CallsError {
    #[error("making the filter")]
    Made(#[from] seccompiler::BackendError),
    #[error("applying the filter")]
    Applied(#[from] seccompiler::Error),
}

/// Applies both lists to all threads.
pub(super) fn limit() -> Result<(), CallsError> {
    let arch = ARCH.try_into()?;
    let filter = |calls, others, these| -> Result<BpfProgram, seccompiler::BackendError> {
        SeccompFilter::new(calls, others, these, arch)?.try_into()
    };
    let deadly = DEADLY.iter().map(|call| (*call, Vec::new())).collect();
    let deadly = filter(deadly, SeccompAction::Allow, SeccompAction::KillProcess)?;
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let allowed = filter(allowed()?, missing, SeccompAction::Allow)?;
    // The kernel takes the stricter answer of the two. The second filter has no call for a third.
    apply_filter_all_threads(&deadly)?;
    Ok(apply_filter_all_threads(&allowed)?)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Returns what is allowed, some of it with certain arguments only.
fn allowed() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = CALLS
        .iter()
        .chain(CALLS_OF_MACHINE)
        .map(|call| (*call, Vec::new()))
        .collect();
    let number = |index, value: i64| {
        SeccompCondition::new(index, Length::Dword, Is::Eq, value.cast_unsigned())
    };
    let masked = |index, mask: i32, value: i32| {
        let (mask, value) = (u64::from(mask.cast_unsigned()), value.cast_unsigned());
        SeccompCondition::new(index, Length::Dword, Is::MaskedEq(mask), value.into())
    };
    let own = i64::from(process::id());
    let mut only = |call: c_long, conditions| -> Result<(), seccompiler::BackendError> {
        let rule = SeccompRule::new(conditions)?;
        rules.entry(call).or_default().push(rule);
        Ok(())
    };
    // A thread, in the namespaces that it is in. What clone3(2) is asked for is in memory, where a filter cannot look: it is not there, and the C
    // library takes this one.
    let thread = masked(0, libc::CLONE_THREAD | NAMESPACES, libc::CLONE_THREAD)?;
    only(libc::SYS_clone, vec![thread])?;
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let kind = masked(1, KIND_OF_SOCKET, kind)?;
            only(libc::SYS_socket, vec![number(0, family.into())?, kind])?;
        }
    }
    // The C library looks for the addresses of the machine when it looks up a name.
    let netlink = number(0, libc::AF_NETLINK.into())?;
    let route = number(2, libc::NETLINK_ROUTE.into())?;
    only(libc::SYS_socket, vec![netlink, route])?;
    only(libc::SYS_socketpair, vec![number(0, libc::AF_UNIX.into())?])?;
    // abort(3).
    only(libc::SYS_tgkill, vec![number(0, own)?])?;
    // To look at limits, not to set them.
    for process in [0, own] {
        let unset = SeccompCondition::new(2, Length::Qword, Is::Eq, 0)?;
        only(libc::SYS_prlimit64, vec![number(0, process)?, unset])?;
    }
    for request in IOCTLS {
        // The C libraries do not agree on the type.
        let request = u64::from(u32::try_from(*request).unwrap_or_default());
        let request = SeccompCondition::new(1, Length::Dword, Is::Eq, request)?;
        only(libc::SYS_ioctl, vec![request])?;
    }
    for option in PRCTLS {
        only(libc::SYS_prctl, vec![number(0, (*option).into())?])?;
    }
    Ok(rules)
}

/// The flags of clone(2) that make namespaces.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// The bits of a socket's type without its flags (SOCK_TYPE_MASK of Linux).
const KIND_OF_SOCKET: i32 = 0xf;

/// Requests to descriptors: whether they block, what waits in them, what terminal they are, which interface has a name.
const IOCTLS: &[u64] = &[
    libc::FIONBIO,
    libc::FIONREAD,
    libc::FIOCLEX,
    libc::TIOCOUTQ,
    libc::TCGETS,
    libc::TCSETS,
    libc::TCSETSW,
    libc::TCSETSF,
    libc::TIOCGWINSZ,
    SIOCGIFNAME,
    SIOCGIFINDEX,
    TCGETS2,
];

/// SIOCGIFNAME and SIOCGIFINDEX of netdevice(7), and TCGETS2 of ioctl_tty(2), which not every version of libc has.
const SIOCGIFNAME: u64 = 0x8910;
const SIOCGIFINDEX: u64 = 0x8933;
const TCGETS2: u64 = 0x802c_542a;

/// Options of a thread: its name, names of memory, and what may be asked.
const PRCTLS: &[i32] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_VMA,
    libc::PR_GET_DUMPABLE,
    libc::PR_CAPBSET_READ,
];

/// What ends the process. Neither the host nor what it is made of calls any of it once it serves.
const DEADLY: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_syslog,
];

/// What the host, tokio, wasmtime, rayon and the C libraries of both kinds call, whatever the arguments: seen under strace(1) in all tests, and what these say
/// that they fall back to.
const CALLS: &[c_long] = &[
    // Descriptors.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_copy_file_range,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // Files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    // Sockets.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    // Threads and signals.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and randomness.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // What the process is.
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Older calls, which later machines do not have any more.
#[cfg(target_arch = "x86_64")]
const CALLS_OF_MACHINE: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_create,
    libc::SYS_eventfd,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_time,
    libc::SYS_getrlimit,
    libc::SYS_arch_prctl,
];

/// Older calls, which this machine never had.
#[cfg(not(target_arch = "x86_64"))]
const CALLS_OF_MACHINE: &[c_long] = &[];
