//! Hostile commands as actions of a grid on a cluster, in a pool of each mode of isolation.

use anyhow::{Result, anyhow};

use super::on_cluster::{GRID_PORT, TestGrid};
use crate::attacks::{self, Mode, Target};
use crate::grid;

/// Each attack ends in each mode as `docs/isolation.md` says, nothing of it is alive afterwards, and the action after it
/// finds its inputs as they were.
///
/// # Errors
/// Naming what ended otherwise.
pub(crate) fn pools() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "hostile-test", &[], "isolation.yaml")?;
    let remote = test.remote("demo")?;
    let address = test.server_address("demo")?;
    let dir = tempfile::tempdir()?;
    let program = attacks::program(dir.path())?;
    let modes = [Mode::Plain, Mode::Bubblewrap, Mode::Chroot];
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let attack = |mode: Mode| {
            let property = ("isolation".to_owned(), mode.name().to_owned());
            let (address, port) = (address.clone(), GRID_PORT);
            Target { remote: &remote, mode, property, address, port }.withstands(&program)
        };
        let threads: Vec<_> = modes.into_iter().map(|mode| scope.spawn(move || attack(mode))).collect();
        let panicked = |_| Err(anyhow!("the thread that attacks panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let wrong: Vec<String> =
        results.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    test.delete()
}
