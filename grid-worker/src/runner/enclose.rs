//! Enters an [`Enclosure`]: afterwards the calling process, and all that it starts, is in it for good.
//!
//! User namespaces need no privilege of the container: the process becomes master of namespaces of its own, lays
//! out its root there, and gives all capabilities up again before any command runs. The existing `/proc` is bound,
//! for a container may not mount a new one; so there is no process namespace either, which would need it.
//! Neighbours: `supervise` calls [`enter`] as its only thread; `serve` has [`attempt`] called at the start.

use std::fs::{create_dir, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::process::{chdir, chroot, getegid, geteuid, pivot_root};
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

use super::isolation::{Enclosure, Isolation};
use super::{loopback, ownership};

/// Devices without state that every program may expect, with their numbers.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links in `/dev` that shells and compilers use.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Encloses this process.
///
/// # Errors
/// Naming the step that the system doesn't allow.
pub(super) fn enter(enclosure: &Enclosure) -> anyhow::Result<()> {
    match enclosure.isolation {
        Isolation::Plain => bail!("plain isolation encloses nothing"),
        Isolation::Bubblewrap => {
            if enclosure.owns_inputs {
                ownership::take(&enclosure.root).context("copying the inputs for their owner")?;
            }
            enter_namespaces(enclosure)
        }
        Isolation::Chroot => enter_chroot(enclosure),
    }
}

/// Tries an enclosure in `directory`, an empty one, in this process.
///
/// # Errors
/// As [`enter`].
pub fn attempt(directory: &Path, isolation: Isolation, uid: u32) -> anyhow::Result<()> {
    let (root, temporary) = (directory.join("root"), directory.join("tmp"));
    create_dir(&root)?;
    create_dir(&temporary)?;
    let enclosure =
        Enclosure { isolation, root, temporary, network: false, uid, gid: uid, owns_inputs: false };
    enclosure.prepare()?;
    enter(&enclosure)
}

fn enter_namespaces(enclosure: &Enclosure) -> anyhow::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
    if !enclosure.network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).context("user namespaces are not allowed here")?;
    write("/proc/self/setgroups", "deny").context("denying setgroups")?;
    write("/proc/self/uid_map", format!("{} {uid} 1", enclosure.uid)).context("mapping the user id")?;
    write("/proc/self/gid_map", format!("{} {gid} 1", enclosure.gid)).context("mapping the group id")?;
    lay_out(enclosure)?;
    chdir(&enclosure.root).context("entering the input root")?;
    // The old root comes to lie over the new one, and is taken away.
    pivot_root(".", ".").context("pivot_root: the container's root must be a mount point")?;
    umount2(".", MntFlags::MNT_DETACH).context("leaving the old root")?;
    chdir("/").context("entering the new root")?;
    if !enclosure.network {
        loopback::bring_up().context("bringing up the loopback device")?;
    }
    give_up_capabilities().context("giving up capabilities")
}

/// Mounts what the command finds besides its inputs.
fn lay_out(enclosure: &Enclosure) -> anyhow::Result<()> {
    let (root, none) = (&enclosure.root, None::<&str>);
    let recursive = MsFlags::MS_BIND | MsFlags::MS_REC;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(none, "/", none, private, none).context("making mounts private")?;
    mount(Some(root), root, none, recursive, none).context("mounting the input root")?;
    mount(Some("/proc"), &root.join("proc"), none, recursive, none).context("mounting /proc")?;
    mount(Some(&enclosure.temporary), &root.join("tmp"), none, MsFlags::MS_BIND, none)
        .context("mounting /tmp")?;
    lay_out_devices(&root.join("dev"))
}

fn lay_out_devices(dev: &Path) -> anyhow::Result<()> {
    let none = None::<&str>;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), dev, Some("tmpfs"), flags, Some("mode=0755,size=1m")).context("mounting /dev")?;
    for (name, ..) in DEVICES {
        let (device, node) = (Path::new("/dev").join(name), dev.join(name));
        write(&node, "").with_context(|| format!("making /dev/{name}"))?;
        mount(Some(&device), &node, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("mounting /dev/{name}"))?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name)).with_context(|| format!("making /dev/{name}"))?;
    }
    let shm = dev.join("shm");
    create_dir(&shm).context("making /dev/shm")?;
    mount(Some("tmpfs"), &shm, Some("tmpfs"), flags, Some("mode=1777")).context("mounting /dev/shm")
}

/// Nothing that is executed from here on gets any capability, whoever it runs as.
fn give_up_capabilities() -> rustix::io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // One that this kernel doesn't know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

fn enter_chroot(enclosure: &Enclosure) -> anyhow::Result<()> {
    let dev = enclosure.root.join("dev");
    for (name, major, minor) in DEVICES {
        let (node, mode) = (dev.join(name), Mode::from_raw_mode(0o666));
        match mknodat(CWD, &node, FileType::CharacterDevice, mode, makedev(major, minor)) {
            Ok(()) => std::fs::set_permissions(&node, PermissionsExt::from_mode(0o666))
                .with_context(|| format!("opening up /dev/{name}"))?,
            // The input root brings a file of its own.
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("making /dev/{name}: MKNOD is needed")),
        }
    }
    chroot(&enclosure.root).context("chroot: SYS_CHROOT is needed")?;
    chdir("/").context("entering the new root")?;
    let (uid, gid) = (Uid::from_raw(enclosure.uid), Gid::from_raw(enclosure.gid));
    setgroups(&[]).context("leaving groups: SETGID is needed")?;
    setresgid(gid, gid, gid).context("changing the group: SETGID is needed")?;
    setresuid(uid, uid, uid).context("changing the user: SETUID is needed")
}
