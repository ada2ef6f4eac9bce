//! Actions that are odd but not hostile: each works, or fails for a reason that is told, and none is held against the
//! worker.

#[cfg(test)]
mod grid;

#[cfg(test)]
mod tests {
    use grid_proto::reapi::command::EnvironmentVariable;
    use grid_proto::reapi::{Command, Tree as TreeMessage};
    use grid_proto::rpc;
    use grid_proto::rwapi::BotStatus;
    use rustix::fs::{FileType, Mode};
    use tonic::Code;

    use super::grid::server::State;
    use super::grid::tree::Tree;
    use super::grid::{Grid, is_root, making, shell};

    async fn refused(grid: &Grid, command: &Command, inputs: &Tree, said: &str) -> rpc::Status {
        let (status, _) = grid.run(command, inputs).await;
        assert_eq!(Code::from_i32(status.code), Code::InvalidArgument, "{}", status.message);
        assert!(status.message.contains(said), "{said:?} is not in {:?}", status.message);
        status
    }

    /// None of it was the worker's fault, so it went on taking work.
    fn unblamed(grid: &Grid) {
        let statuses = grid.server.state.lock().statuses.clone();
        let well = statuses.iter().position(|status| *status == BotStatus::Ok).unwrap();
        assert!(!statuses[well..].contains(&BotStatus::Unhealthy), "{statuses:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn names_that_no_file_can_have_are_refused_and_not_the_workers_fault() {
        let grid = Grid::start().await;
        let long = "n".repeat(300);
        for _ in 0..3 {
            let inputs = Tree::default().file(&format!("d/{long}"), "x");
            refused(&grid, &shell("true"), &inputs, "300 bytes").await;
            let inputs = Tree::default().link("link", &"t".repeat(5_000));
            refused(&grid, &shell("true"), &inputs, "5000 bytes").await;
            refused(&grid, &making("true", &[&long]), &Tree::default(), "too long").await;
            refused(
                &grid,
                &making("true", &[&"deep/".repeat(2_000)]),
                &Tree::default(),
                "longer than any path",
            )
            .await;
            let dig =
                Command { arguments: vec!["perl".into(), "-e".into(), DIG.into()], ..making("", &["top"]) };
            refused(&grid, &dig, &Tree::default(), "too deep").await;
        }
        unblamed(&grid);
        grid.swept().await;
    }

    /// Directories whose path is longer than the system takes at once.
    const DIG: &str =
        "mkdir 'top'; chdir 'top'; for (1..25) { mkdir('d' x 200) or die; chdir('d' x 200) or die }";

    #[tokio::test(flavor = "multi_thread")]
    async fn large_things_go_through() {
        let grid = Grid::start().await;
        // A log of 50 MB, and another beside it.
        let script = "head -c 50000000 /dev/zero | tr '\\0' a; head -c 5000000 /dev/zero | tr '\\0' b >&2";
        let (status, result) = grid.run(&shell(script), &Tree::default()).await;
        assert_eq!((status.code, result.exit_code), (0, 0), "{}", status.message);
        let length =
            |digest: &Option<grid_proto::reapi::Digest>| grid.server.get(digest.as_ref().unwrap()).len();
        assert_eq!((length(&result.stdout_digest), length(&result.stderr_digest)), (50_000_000, 5_000_000));
        assert!(result.output_files.is_empty() && result.output_directories.is_empty(), "it has no outputs");
        // More files than a call names.
        let script = "perl -e 'mkdir \"d\"; for (1..25000) { open(F, \">\", \"d/$_\"); print F $_ }'";
        let (status, result) = grid.run(&making(script, &["d"]), &Tree::default()).await;
        assert_eq!(status.code, 0, "{}", status.message);
        let tree: TreeMessage =
            grid.server.get_message(result.output_directories[0].tree_digest.as_ref().unwrap());
        let files = tree.root.unwrap().files;
        assert_eq!(files.len(), 25_000);
        let last = files.iter().find(|file| file.name == "24999").unwrap();
        assert_eq!(grid.server.get(last.digest.as_ref().unwrap()), "24999");
        // Arguments that the system doesn't take: as a shell says it, and more than a message usually holds.
        let mut command = shell("true");
        command.arguments.push("x".repeat(6_000_000));
        let (status, result) = grid.run(&command, &Tree::default()).await;
        assert_eq!((status.code, result.exit_code), (0, 126), "{}", status.message);
        assert!(String::from_utf8_lossy(&result.stderr_raw).contains("rgument list too long"), "{result:?}");
        unblamed(&grid);
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_next_actions_inputs_come_while_one_runs() {
        let grid = Grid::with(&["--prefetch", "1"]).await;
        let gate = grid.path("gate");
        let wait = format!("while test ! -e {}; do sleep 0.05; done", gate.display());
        let first = grid.submit(&shell(&wait), &Tree::default(), |_| {});
        let reached = |state: &State, lease: &str, run: bool| {
            state.progress.get(lease).is_some_and(|m| {
                m.input_fetch_completed_timestamp.is_some() && m.execution_start_timestamp.is_some() == run
            })
        };
        grid.server.until(|state| reached(state, &first, true)).await;
        let inputs = Tree::default().file("in", "early");
        let second = grid.submit(&making("cat in > out", &["out"]), &inputs, |_| {});
        grid.server.until(|state| reached(state, &second, false)).await;
        std::fs::write(&gate, "").unwrap();
        for lease in [&first, &second] {
            let (status, result) = grid.result(lease).await;
            assert_eq!((status.code, result.exit_code), (0, 0), "{}", status.message);
        }
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_leases_at_once_are_not_too_much_to_talk_of() {
        let grid = Grid::with(&["--concurrency", "100"]).await;
        let stream = "a-grid/of-some-length/logstreams/0c5dd2c5-9f0f-4f0e-8f0c-3c8e6f1f6a53/0c5dd2c5";
        grid.server.state.lock().stdout_stream = format!("{stream}/out");
        grid.server.state.lock().stderr_stream = format!("{stream}/err");
        let gate = grid.path("gate");
        rustix::fs::mknodat(rustix::fs::CWD, &gate, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        std::fs::set_permissions(&gate, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        // Each waits until somebody opens the other end.
        let wait = |n: usize| shell(&format!("echo {n} < {}", gate.display()));
        let leases: Vec<_> = (0..70).map(|n| grid.submit(&wait(n), &Tree::default(), |_| {})).collect();
        grid.server.until(|state| state.report.leases.len() == leases.len()).await;
        let _open = std::fs::OpenOptions::new().read(true).write(true).open(&gate).unwrap();
        for lease in &leases {
            let (status, result) = grid.result(lease).await;
            assert_eq!((status.code, result.exit_code), (0, 0), "{}", status.message);
        }
        assert_eq!(grid.server.state.lock().sessions, 1);
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_unusual_is_done_to_the_letter() {
        let grid = Grid::start().await;
        let mut command = shell("printf %s \"$TEXT\"");
        let text = "one\ntwo\t\"three\"\r\n\u{e9}";
        command.environment_variables.push(EnvironmentVariable { name: "TEXT".into(), value: text.into() });
        let (status, result) = grid.run(&command, &Tree::default()).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, text.as_bytes()));
        // An output below a link of the inputs that stays within them.
        let inputs = Tree::default().directory("real/sub").link("link", "real");
        let (status, result) =
            grid.run(&making("echo 1 > link/sub/new/out", &["link/sub/new/out"]), &inputs).await;
        assert_eq!((status.code, result.output_files.len()), (0, 1), "{} {result:?}", status.message);
        let inputs = Tree::default().link("link", "/tmp");
        refused(&grid, &making("true", &["link/new/out"]), &inputs, "something else").await;
        unblamed(&grid);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_command_that_replaces_its_own_logs_is_to_blame() {
        if !is_root() {
            return;
        }
        let grid = Grid::start().await;
        for script in [
            "rm ../logs/stdout; mkfifo ../logs/stdout",
            "rm ../logs/stderr; ln -s /etc/passwd ../logs/stderr",
        ] {
            refused(&grid, &shell(script), &Tree::default(), "put something else").await;
        }
        unblamed(&grid);
        grid.swept().await;
    }
}
