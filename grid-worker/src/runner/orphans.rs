//! The runner's own children: which of them are supervisors, and the end of all others.
//!
//! A command has its supervisor's user id and can kill it. What the command started then becomes the child of
//! the runner, which is the next subreaper (and in a container PID 1). So a child that is no supervisor is
//! such a leftover: it is killed, and reaped. Neighbour: `supervisors` starts them through
//! [`Children::start`], so that none is ever mistaken for a leftover.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::process_tree::ProcessTree;

/// The supervisors that are alive.
#[derive(Clone, Debug, Default)]
pub(super) struct Children {
    supervisors: Arc<Mutex<HashSet<i32>>>,
}

/// A supervisor that is alive; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    pid: i32,
    supervisors: Arc<Mutex<HashSet<i32>>>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.supervisors.lock().remove(&self.pid);
    }
}

impl Children {
    /// Starts a supervisor. No other child is looked at between its start and its registration.
    pub(super) fn start(&self, command: &mut Command) -> std::io::Result<(Child, Registration)> {
        let mut supervisors = self.supervisors.lock();
        let child = command.spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
        supervisors.insert(pid);
        drop(supervisors);
        Ok((child, Registration { pid, supervisors: self.supervisors.clone() }))
    }

    /// Ends the leftovers of killed supervisors, whenever a child of the runner ends.
    pub(super) async fn reap_leftovers(self) -> std::io::Result<()> {
        let mut ended = signal(SignalKind::child())?;
        let tree = Arc::new(ProcessTree::open()?);
        while ended.recv().await.is_some() {
            let (children, tree) = (self.clone(), tree.clone());
            // Reading /proc is blocking work.
            let _ = tokio::task::spawn_blocking(move || children.end_leftovers(&tree)).await;
        }
        Ok(())
    }

    /// Asked after every command: what all processes of the machine say would cost more than most commands. One that the
    /// kernel left out is seen at the next command's end.
    fn may_have_leftovers(&self, tree: &ProcessTree) -> bool {
        let supervisors = self.supervisors.lock();
        let children = tree.children();
        children.is_none_or(|all| all.iter().any(|pid| !supervisors.contains(&pid.as_raw_pid())))
    }

    fn end_leftovers(&self, tree: &ProcessTree) {
        while self.may_have_leftovers(tree) {
            let supervisors = self.supervisors.lock();
            let own = getpid().as_raw_pid();
            let leftovers: Vec<Pid> = tree
                .descendants(getpid())
                .into_iter()
                .filter(|p| p.parent == own && !supervisors.contains(&p.pid.as_raw_pid()))
                .map(|p| p.pid)
                .collect();
            drop(supervisors);
            if leftovers.is_empty() {
                return;
            }
            for pid in leftovers {
                tree.kill_below(pid);
                let _ = kill_process(pid, Signal::KILL);
                // By its id: waiting for any child would take supervisors' statuses from tokio.
                let _ = waitpid(Some(pid), WaitOptions::empty());
            }
        }
    }
}
