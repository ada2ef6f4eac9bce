//! The attacks, what is expected of each in each mode, and the document that says so.

use std::fmt::Write;

/// A mode of isolation, or another runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Bubblewrap,
    Chroot,
    /// buildbox-worker with buildbox-run-hosttools, in a pod.
    Buildbox,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Bubblewrap => "bubblewrap",
            Self::Chroot => "chroot",
            Self::Buildbox => "buildbox",
        }
    }
}

/// How an attack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The system refuses what it tries.
    Refused,
    /// It is killed.
    Killed,
    /// It does what it tries, and that harms nobody.
    Harmless,
    /// Its result is refused, for REAPI can't describe what it made.
    OutputRefused,
    /// There is no result: the worker fails at it, as often as the grid tries.
    GivenUp,
    /// It does what it tries.
    Open,
    /// It does what it tries, and the worker may fail at it before it tells of that.
    OpenOrGivenUp,
}

use End::{GivenUp, Harmless, Killed, Open, OpenOrGivenUp, OutputRefused, Refused};

impl End {
    fn word(self) -> &'static str {
        match self {
            Refused => "refused",
            Killed => "killed",
            Harmless => "harmless",
            OutputRefused => "result refused",
            GivenUp => "given up",
            Open => "**open**",
            OpenOrGivenUp => "**open** or given up",
        }
    }
}

/// What attacks aim at.
pub(crate) struct Scene {
    pub(crate) cache: String,
    /// The directory of the cached input.
    pub(crate) cached: String,
    pub(crate) build: String,
    pub(crate) socket: String,
    pub(crate) worker: String,
    pub(crate) runner: String,
    /// The grid's.
    pub(crate) address: String,
    pub(crate) port: String,
}

type Words = fn(&Scene) -> Vec<String>;

/// An end, and what brings it about.
type Ending = (End, &'static str);

/// One attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) words: Words,
    pub(crate) outputs: &'static [&'static str],
    ends: [Ending; 3],
    /// What is otherwise in pods; and there alone, with BuildBox.
    pods: &'static [(Mode, Ending)],
}

impl Attack {
    /// How it ends where worker and runner are processes of one machine.
    pub(crate) fn end(&self, mode: Mode) -> Ending {
        self.ends[mode as usize]
    }

    /// How it ends in a pod.
    pub(crate) fn end_in_pod(&self, mode: Mode) -> Ending {
        let otherwise = self.pods.iter().find(|(pods, _)| *pods == mode).map(|(_, ending)| *ending);
        otherwise.unwrap_or_else(|| if mode == Mode::Buildbox { UNBOUNDED } else { self.end(mode) })
    }

    const fn pods(self, pods: &'static [(Mode, Ending)]) -> Self {
        Self { pods, ..self }
    }
}

macro_rules! words {
    ($($word:expr),*) => { |_| vec![$($word.to_owned()),*] };
}

const fn everywhere(name: &'static str, words: Words, end: Ending) -> Attack {
    Attack { name, words, outputs: &[], ends: [end; 3], pods: &[] }
}

const fn each(name: &'static str, words: Words, ends: [Ending; 3]) -> Attack {
    Attack { name, words, outputs: &[], ends, pods: &[] }
}

const fn making(name: &'static str, words: Words, outputs: &'static [&'static str], end: Ending) -> Attack {
    Attack { name, words, outputs, ends: [end; 3], pods: &[] }
}

/// What BuildBox's programs leave to the pod.
const UNBOUNDED: Ending = (Open, "one user for all, and no limits but the pod's");
const USERS: Ending = (Refused, "another user's");
const UNSEEN: Ending = (Refused, "not in its root");
const SECCOMP: Ending = (Refused, "the seccomp profile RuntimeDefault");
const FAILS: Ending = (GivenUp, "the worker fails, five times");
const CAPABILITIES: Ending = (Refused, "no capabilities");

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    each(
        "fork bomb",
        words!["fork", "300"],
        [
            (Killed, "supervisor counts processes"),
            (Killed, "supervisor, and RLIMIT_NPROC of its own user namespace"),
            (Killed, "supervisor counts processes"),
        ],
    ),
    everywhere("memory hog", words!["memory", "600"], (Killed, "supervisor measures memory")),
    everywhere(
        "memory hog in many processes",
        words!["memory-in-children", "20", "30"],
        (Killed, "supervisor sums up the tree"),
    ),
    everywhere("one endless file", words!["fill", "200"], (Killed, "RLIMIT_FSIZE")),
    everywhere(
        "disk full of small files",
        words!["fill-many", "100", "4"],
        (Killed, "supervisor measures files"),
    ),
    everywhere("endless standard output", words!["flood", "1", "40"], (Killed, "supervisor measures logs")),
    everywhere("endless standard error", words!["flood", "2", "40"], (Killed, "supervisor measures logs")),
    everywhere(
        "time bomb that blocks all signals",
        words!["stubborn"],
        (Killed, "timeout, SIGKILL to the tree"),
    )
    .pods(&[(Mode::Buildbox, (Killed, "timeout"))]),
    everywhere(
        "processes left behind",
        words!["daemonize"],
        (Harmless, "the subreaper ends them before the result"),
    ),
    everywhere("overwriting an input", words!["overwrite", "in"], USERS),
    everywhere("chmod of an input", words!["chmod", "in"], USERS),
    everywhere("unlinking an input", words!["unlink", "in"], (Harmless, "only its own link goes")),
    everywhere("replacing an input", words!["rename", "attack", "in"], (Harmless, "only its own link goes")),
    each("listing the cache", |s| vec!["list".to_owned(), s.cache.clone()], [USERS, UNSEEN, UNSEEN]),
    each(
        "writing to the cache",
        |s| vec!["make".to_owned(), format!("{}/planted", s.cached)],
        [USERS, UNSEEN, UNSEEN],
    ),
    each(
        "a directory beside its own",
        |s| vec!["make".to_owned(), format!("{}/planted", s.build)],
        [USERS, UNSEEN, UNSEEN],
    ),
    each(
        "renaming the build directory",
        |s| vec!["rename".to_owned(), s.build.clone(), format!("{}2", s.build)],
        [USERS, UNSEEN, UNSEEN],
    ),
    everywhere("killing the worker", |s| vec!["kill".to_owned(), s.worker.clone()], USERS)
        .pods(&[(Mode::Buildbox, (Harmless, "the kernel keeps a container's first process"))]),
    everywhere("ptrace of the worker", |s| vec!["ptrace".to_owned(), s.worker.clone()], USERS),
    everywhere(
        "ptrace of the runner",
        |s| vec!["ptrace".to_owned(), s.runner.clone()],
        (Refused, "not dumpable"),
    ),
    everywhere("ptrace of its supervisor", words!["ptrace-parent"], (Refused, "not dumpable")),
    each(
        "the worker's environment",
        |s| vec!["read".to_owned(), format!("/proc/{}/environ", s.worker)],
        [USERS, USERS, UNSEEN],
    ),
    each(
        "the runner's environment",
        |s| vec!["read".to_owned(), format!("/proc/{}/environ", s.runner)],
        [(Refused, "not dumpable"), (Refused, "not dumpable"), UNSEEN],
    ),
    each(
        "the runner's memory",
        |s| vec!["read".to_owned(), format!("/proc/{}/mem", s.runner)],
        [(Refused, "not dumpable"), (Refused, "not dumpable"), UNSEEN],
    )
    .pods(&[(Mode::Buildbox, (Refused, "nothing lies where it looks"))]),
    each(
        "calling the runner",
        |s| vec!["call-runner".to_owned(), s.socket.clone()],
        [(Refused, "SO_PEERCRED: only the worker's user"), UNSEEN, UNSEEN],
    ),
    each(
        "a network call to the grid",
        |s| vec!["tcp".to_owned(), s.port.clone(), s.address.clone()],
        [
            (Open, "the pod's network; Bots and Fleet ask for credentials"),
            (Refused, "a network namespace of its own"),
            (Open, "the pod's network; Bots and Fleet ask for credentials"),
        ],
    ),
    each(
        "the image's files",
        words!["read", "/etc/passwd"],
        [(Open, "the image is its root"), UNSEEN, UNSEEN],
    ),
    each(
        "files in the image's /tmp",
        words!["list", "/tmp/."],
        [(Open, "shared by the pod's actions"), (Harmless, "one of its own"), (Harmless, "one of its own")],
    ),
    everywhere("setuid(0)", words!["setuid"], CAPABILITIES).pods(&[(Mode::Buildbox, CAPABILITIES)]),
    everywhere("a setuid file", words!["setuid-file"], (Refused, "no_new_privs"))
        .pods(&[(Mode::Buildbox, (Refused, "no_new_privs"))]),
    everywhere("mounting", words!["mount"], CAPABILITIES).pods(&[(Mode::Buildbox, CAPABILITIES)]),
    everywhere("chroot", words!["chroot"], CAPABILITIES).pods(&[(Mode::Buildbox, CAPABILITIES)]),
    everywhere("a block device", words!["device"], CAPABILITIES).pods(&[(Mode::Buildbox, CAPABILITIES)]),
    everywhere("a memory device", words!["memory-device"], CAPABILITIES)
        .pods(&[(Mode::Buildbox, CAPABILITIES)]),
    everywhere("the host's name", words!["hostname"], CAPABILITIES).pods(&[(Mode::Buildbox, CAPABILITIES)]),
    everywhere("raising its limits", words!["limits"], CAPABILITIES),
    each(
        "a user namespace",
        words!["namespace"],
        [
            (Open, "unless the pod's seccomp profile forbids it, as RuntimeDefault does"),
            (Open, "the profile that allows the sandbox allows it"),
            (Refused, "not from a changed root"),
        ],
    )
    .pods(&[(Mode::Plain, SECCOMP), (Mode::Buildbox, SECCOMP)]),
    making("a FIFO as output", words!["fifo", "out"], &["out"], (OutputRefused, "named in the error"))
        .pods(&[(Mode::Buildbox, FAILS)]),
    making("a socket as output", words!["socket", "out"], &["out"], (OutputRefused, "named in the error"))
        .pods(&[(Mode::Buildbox, FAILS)]),
    making(
        "an output that links out of the root",
        words!["link", "out", "/etc/passwd"],
        &["out"],
        (Harmless, "the link is the result, never what it names"),
    )
    .pods(&[(Mode::Buildbox, FAILS)]),
    making(
        "an output below a link out of the root",
        words!["link", "links", "/etc"],
        &["links/passwd"],
        (OutputRefused, "links are not followed"),
    )
    .pods(&[(Mode::Buildbox, (Harmless, "links are not followed"))]),
    everywhere(
        "directories 1,000 levels deep",
        words!["bury", "1000"],
        (Harmless, "removed one level at a time"),
    ),
    everywhere("locked directories", words!["lock"], (Harmless, "the runner opens what its user owns")).pods(
        &[(Mode::Buildbox, (OpenOrGivenUp, "BuildBox's casd ends at them, before or after the result"))],
    ),
];

const HEAD: &str = "\
# Isolation

<!-- Generated by the tests of grid-worker (tests/isolation.rs); GRID_BLESS=1 writes it anew. -->

`grid-runner serve --isolation MODE` sets what keeps commands apart. The runner tries the mode at its start, and
doesn't start where the system doesn't allow it; the error says which step failed.

| mode | the command's `/` | network | users | the runner's container needs |
|---|---|---|---|---|
| `plain` | the image | the pod's | the runner's | nothing: Pod Security `restricted`. Commands of one pod see each other: concurrency 1 for mutual distrust |
| `bubblewrap` | the input root | its own loopback; the pod's only with `--allow-network` and the property `network` or `dockerNetwork` | the runner's, seen as any id that `unixUID` and `unixGID` ask for | user namespaces, which the seccomp profile RuntimeDefault forbids: a `Localhost` profile that allows `unshare`, `mount` and `pivot_root`. No privilege, no capability, no root |
| `chroot` | the input root, without `/proc` | the pod's | `--chroot-uid` | root with `SYS_CHROOT`, `SETUID`, `SETGID`, `MKNOD`, `FOWNER`, `DAC_OVERRIDE` and `KILL`: Pod Security `baseline` |

On Kubernetes a pool with `isolation: bubblewrap` runs in a namespace labelled
`pod-security.kubernetes.io/enforce: privileged`, for its runner runs without a seccomp profile, unless `spec.seccompProfile`
names one that lies on the nodes. Where the namespace refuses the pods, the pool's condition `Degraded` says `PodsRefused`
and why.

`bubblewrap` needs no program of that name: the runner makes the namespaces itself, so it works in an image that
holds nothing. The property `chrootDigest` names a directory of the CAS that is staged under the inputs. A command
that asks for a user id owns its inputs, which are copied for it (reflinked where the file system can); others share
the worker's cache through read-only links. What a mode can't give is refused, and never left out silently.

## Hostile commands

Each row is a test, in each mode, with the worker and the runner as two users and these limits set:
`--memory-limit`, `--process-limit`, `--log-limit`, `--file-limit`, `--action-disk-limit`. After each one no process
of it is alive, the cached inputs are what they were, and the next action succeeds. *Refused*: the system refused the
attempt. *Killed*: the whole tree was. *Harmless*: done, to nobody's harm. *Open*: done; know it before you choose.

Fork bombs: the supervisor counts every 100 ms. What is made in between is bounded by twice the limit in `bubblewrap`,
where the kernel counts for each command; elsewhere all pods of one user share the kernel's counter, and it is the
pod's `podPidsLimit` that bounds it.

No limit rests on a cgroup of the command's own: a container without privilege can't write to its cgroups, and where one can,
the runner makes no use of it. What the kernel counts for the whole container bounds all of its commands together.

";

const IN_PODS: &str = "
## In pods

`cargo xtask test --full hostile` sends each of these commands through the ingress of a grid on a cluster, to a pool of each
mode ([examples/isolation.yaml](../examples/isolation.yaml)), and `buildbox-pool` to pods of `runtime: buildbox` with
`isolation: plain`, whose column stands above. The worker is in a container of its own there, so its processes can't be
named at all. The network call goes to the grid's server: what it says there is up to the grid's authentication, but for
Bots and Fleet, which ask for credentials that no runner has. The other ends are the same as above, but for these:

";

/// The document.
pub(crate) fn document() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| attempt | plain | bubblewrap | chroot | BuildBox, in a pod |\n|---|---|---|---|---|\n");
    let cell = |(end, why): Ending| format!("{}: {why}", end.word());
    let modes = [Mode::Plain, Mode::Bubblewrap, Mode::Chroot];
    for attack in ATTACKS {
        let cells = modes.map(|mode| cell(attack.end(mode))).join(" | ");
        let buildbox = cell(attack.end_in_pod(Mode::Buildbox));
        let _ = writeln!(text, "| {} | {cells} | {buildbox} |", attack.name);
    }
    text.push_str(IN_PODS);
    for (attack, mode) in ATTACKS.iter().flat_map(|attack| modes.map(|mode| (attack, mode))) {
        if attack.end_in_pod(mode) != attack.end(mode) {
            let (name, mode, ending) = (attack.name, mode.name(), cell(attack.end_in_pod(mode)));
            let _ = writeln!(text, "- {name}, {mode}: {ending}.");
        }
    }
    text
}
