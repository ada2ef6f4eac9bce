//! How a worker leaves: by SIGTERM, by a notice of preemption, by a drain of the grid.

#[cfg(test)]
mod grid;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Child;
    use std::time::Duration;

    use grid_proto::rwapi::{BotStatus, LeaseState};
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tonic::Code;

    use super::grid::events::gone;
    use super::grid::tree::Tree;
    use super::grid::{Grid, making, shell};

    fn process(grid: &Grid) -> Pid {
        let id = grid.worker.as_ref().unwrap().id();
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }

    fn terminate(grid: &Grid) {
        kill_process(process(grid), Signal::TERM).unwrap();
    }

    /// A number of seconds that no other test waits for, as a word to find processes by.
    fn word(n: u32) -> String {
        format!("{}{n:03}", 300_000 + std::process::id() % 100_000)
    }

    async fn ends_well(mut worker: Child) {
        let ended = tokio::task::spawn_blocking(move || worker.wait().unwrap()).await.unwrap();
        assert!(ended.success());
    }

    /// A script that runs until the file is there.
    fn until(gate: &Path, then: &str) -> String {
        format!("while test ! -e {}; do sleep 0.05; done; {then}", gate.display())
    }

    /// Where the worker shows itself; an address that only this test program has.
    fn admin(n: u8) -> String {
        let [high, low, ..] = std::process::id().to_le_bytes();
        format!("127.{}.{high}.{low}:8981", 100 + n)
    }

    async fn get(address: &str, path: &str) -> String {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Waits until the worker says of itself what it should.
    async fn shown(address: &str, path: &str, text: &str) {
        let waited = tokio::time::timeout(super::grid::PATIENCE, async {
            while !get(address, path).await.contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{path} never said {text:?}"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_drained_worker_finishes_shows_that_it_may_go_and_comes_back() {
        let address = admin(1);
        let grid = Grid::with(&["--admin", &address]).await;
        let gate = grid.path("gate");
        let lease =
            grid.submit(&making(&until(&gate, "echo late > out"), &["out"]), &Tree::default(), |_| {});
        grid.server.until(|state| state.report.leases.iter().any(|l| l.state() == LeaseState::Active)).await;
        grid.server.drain(Some(1_000));
        shown(&address, "/readyz", "draining: 1 leases have 99").await;
        shown(&address, "/metrics", "grid_worker_draining 1").await;
        std::fs::write(&gate, "").unwrap();
        let (status, result) = grid.result(&lease).await;
        assert_eq!((status.code, result.output_files.len()), (0, 1));
        shown(&address, "/readyz", "drained").await;
        assert_eq!(grid.server.state.lock().report.status(), BotStatus::Ok, "it is well, and not wanted");

        // A lease that was on its way when time was up is given back, and the worker is of use again afterwards.
        grid.server.drain(Some(0));
        let (status, _) = grid.run(&shell("true"), &Tree::default()).await;
        assert_eq!(Code::from_i32(status.code), Code::Unavailable);
        grid.server.drain(None);
        shown(&address, "/readyz", "\r\n\r\nready\n").await;
        shown(&address, "/metrics", "grid_worker_draining 0").await;
        let (status, _) = grid.run(&shell("true; true"), &Tree::default()).await;
        assert_eq!(status.code, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_leaving_worker_finishes_what_it_has() {
        let mut grid = Grid::with(&["--grace", "50"]).await;
        let gate = grid.path("gate");
        let lease =
            grid.submit(&making(&until(&gate, "echo late > out"), &["out"]), &Tree::default(), |_| {});
        grid.server.until(|state| state.report.leases.iter().any(|l| l.state() == LeaseState::Active)).await;
        terminate(&grid);
        grid.server.until(|state| state.report.status() == BotStatus::BotTerminating).await;
        std::fs::write(&gate, "").unwrap();
        let (status, result) = grid.result(&lease).await;
        assert_eq!((status.code, result.output_files.len()), (0, 1));
        ends_well(grid.worker.take().unwrap()).await;
        let state = grid.server.state.lock();
        assert_eq!(state.statuses.last(), Some(&BotStatus::BotTerminating));
        assert_eq!(state.report.leases, [], "the last word came after the result was taken");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_notice_of_preemption_is_told_and_what_runs_is_shown_and_finished() {
        let notice = tempfile::tempdir().unwrap();
        std::fs::set_permissions(notice.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let file = notice.path().join("notice");
        let mut grid = Grid::with(&["--preemption-file", file.to_str().unwrap()]).await;
        let word = word(8);
        let (sign, gate) = (grid.path("signs").join(&word), grid.path("gate"));
        let script = format!(": > {}; {}", sign.display(), until(&gate, "true"));
        let lease = grid.submit(&shell(&script), &Tree::default(), |_| {});
        grid.begun(&word).await;
        std::fs::write(&file, "").unwrap();
        grid.server.until(|state| state.report.status() == BotStatus::HostRebooting).await;
        let reached = grid.server.state.lock().progress[&lease].clone();
        assert!(reached.execution_start_timestamp.is_some(), "{reached:?}");
        assert_eq!(reached.execution_completed_timestamp, None);
        std::fs::write(&gate, "").unwrap();
        let (status, _) = grid.result(&lease).await;
        assert_eq!(status.code, 0);
        ends_well(grid.worker.take().unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_metadata_service_that_speaks_of_preemption_is_heard() {
        // What a cloud answers: at first that all is well, then that the machine goes.
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/preempted", service.local_addr().unwrap());
        let flavor = "Metadata-Flavor: Google";
        let mut grid = Grid::with(&["--preemption-url", &url, "--preemption-header", flavor]).await;
        for (answer, goes) in [("404 Not Found", false), ("200 OK", false), ("200 OK", true)] {
            assert!(!grid.server.state.lock().statuses.contains(&BotStatus::HostRebooting), "not yet");
            let (mut call, _) =
                tokio::time::timeout(super::grid::PATIENCE, service.accept()).await.unwrap().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(call.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap().to_lowercase();
            assert!(
                request.starts_with("get /preempted ") && request.contains(&flavor.to_lowercase()),
                "{request}"
            );
            let body = if goes { "TRUE" } else { "FALSE" };
            let text = format!(
                "HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            call.write_all(text.as_bytes()).await.unwrap();
        }
        grid.server.until(|state| state.statuses.contains(&BotStatus::HostRebooting)).await;
        ends_well(grid.worker.take().unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_does_not_finish_in_time_is_given_back() {
        let mut grid = Grid::with(&["--grace", "1"]).await;
        let word = word(6);
        let lease = grid.submit(&shell(&grid.endless(&word)), &Tree::default(), |_| {});
        grid.begun(&word).await;
        terminate(&grid);
        let (status, result) = grid.result(&lease).await;
        assert_eq!(Code::from_i32(status.code), Code::Unavailable);
        assert_eq!(result.execution_metadata, None);
        ends_well(grid.worker.take().unwrap()).await;
        gone(&word).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_stays_away_keeps_no_worker_from_leaving() {
        let mut grid = Grid::with(&["--grace", "0"]).await;
        let word = word(7);
        grid.submit(&shell(&grid.endless(&word)), &Tree::default(), |_| {});
        grid.begun(&word).await;
        grid.served.stop();
        terminate(&grid);
        let process = process(&grid);
        let ended = tokio::time::timeout(super::grid::PATIENCE, ends_well(grid.worker.take().unwrap())).await;
        if ended.is_err() {
            // Whoever waits for it would wait on.
            kill_process(process, Signal::KILL).unwrap();
            panic!("it still waits for the server");
        }
        gone(&word).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_without_work_leaves_at_once() {
        let mut grid = Grid::start().await;
        assert_eq!(grid.run(&shell("true"), &Tree::default()).await.0.code, 0);
        terminate(&grid);
        ends_well(grid.worker.take().unwrap()).await;
    }
}
