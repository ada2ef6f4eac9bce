//! What the test cluster and its clients consist of, made in the background while the compiler leaves a core idle now
//! and then.

use std::process::Child;
use std::time::Instant;

use anyhow::Result;

use crate::{shell, workspace};

/// Its process.
pub(crate) struct Preparation(Child);

impl Preparation {
    /// Starts it, at a low priority.
    ///
    /// # Errors
    /// Where it can't be started.
    pub(crate) fn start() -> Result<Self> {
        let log = std::fs::File::create(workspace::cache()?.join("preparation.log"))?;
        let script = "e2e/cluster/gridcluster build && e2e/cluster/gridcluster clients-rootfs";
        let mut command = shell::command("nice", ["-n", "10", "sh", "-c", script])?;
        Ok(Self(command.stdout(log.try_clone()?).stderr(log).spawn()?))
    }

    /// Waits for its end, and says how long that took.
    pub(crate) fn wait(self) {
        let start = Instant::now();
        drop(self);
        println!("==> waited {:.1} s for the programs of the cluster", start.elapsed().as_secs_f64());
    }
}

/// Waits for its end: nothing of a test outlives it. What failed is done once more by the row that needs it, and told
/// there.
impl Drop for Preparation {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}
