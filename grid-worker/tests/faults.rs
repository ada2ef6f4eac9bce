//! What happens when something goes wrong at each step: never a wrong result, never anything left behind.

#[cfg(test)]
mod grid;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use grid_proto::reapi::{Command, Digest};
    use grid_proto::rpc::PreconditionFailure;
    use grid_proto::rwapi::BotStatus;
    use grid_proto::{any, rpc};
    use rustix::process::{Pid, Signal, kill_process};
    use tonic::Code;

    use super::grid::events::{self, alive, gone};
    use super::grid::server::State;
    use super::grid::tree::Tree;
    use super::grid::{Grid, RUNNER_UID, is_root, making, shell};

    fn code(status: &rpc::Status) -> Code {
        Code::from_i32(status.code)
    }

    fn key(digest: &Digest) -> String {
        format!("{}/{}", digest.hash, digest.size_bytes)
    }

    fn signal(child: Option<&std::process::Child>, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(child.unwrap().id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// A number of seconds that no other test waits for, as a word to find processes by.
    fn word(n: u32) -> String {
        format!("{}{n:03}", 100_000 + std::process::id() % 100_000)
    }

    async fn works(grid: &Grid, what: &str) {
        let (status, result) =
            grid.run(&making(&format!("echo {what} > out"), &["out"]), &Tree::default()).await;
        assert_eq!((status.code, result.exit_code), (0, 0), "{}", status.message);
        assert_eq!(grid.server.get(result.output_files[0].digest.as_ref().unwrap()), format!("{what}\n"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn missing_inputs_are_listed_for_the_client() {
        let grid = Grid::start().await;
        let inputs = Tree::default().file("a/one", "1").file("b/two", "2").file("b/three", "3");
        let lease = {
            // Gone before the worker can look: held back until the blobs are removed.
            grid.server.fault("BatchReadBlobs", Some(Code::Unavailable));
            let lease = grid.submit(&shell("true"), &inputs, |_| {});
            let gone = [grid.server.put(b"1"), grid.server.put(b"3")];
            for digest in &gone {
                grid.server.state.lock().blobs.remove(&key(digest));
            }
            grid.server.fault("BatchReadBlobs", None);
            lease
        };
        let (status, _) = grid.result(&lease).await;
        assert_eq!(code(&status), Code::FailedPrecondition);
        let failure: PreconditionFailure = any::unpack(&status.details[0]).unwrap();
        let mut subjects: Vec<_> = failure.violations.into_iter().map(|v| (v.r#type, v.subject)).collect();
        subjects.sort();
        let mut expected = [b"1", b"3"].map(|content| {
            let digest = grid_core::Digest::of(grid_core::DigestFunction::Sha256, content);
            ("MISSING".to_owned(), format!("blobs/{digest}"))
        });
        expected.sort();
        assert_eq!(subjects, expected);

        // A missing directory, and a missing command.
        let deep = Tree::default().file("x/y/z/file", "4");
        let root = grid.server.put_tree(&deep);
        let mut command = shell("true");
        command.arguments.push("missing".to_owned());
        let wire = grid.server.put_message(&command);
        let action = grid_proto::reapi::Action {
            command_digest: Some(wire.clone()),
            input_root_digest: Some(root),
            ..Default::default()
        };
        grid.server.state.lock().blobs.remove(&key(&wire));
        let (status, _) = grid.result(&grid.server.enqueue(&action)).await;
        assert_eq!(code(&status), Code::FailedPrecondition);
        assert!(status.message.contains(&wire.hash));
        works(&grid, "afterwards").await;
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn content_that_is_not_its_digests_never_reaches_an_action() {
        let grid = Grid::start().await;
        let small = grid.server.put(b"right");
        let large_content = vec![7; 2_000_000];
        let large = grid.server.put(&large_content);
        grid.server.state.lock().corrupt.insert(key(&small), Bytes::from_static(b"wrong"));
        let mut wrong = large_content.clone();
        wrong[1_000_000] = 8;
        grid.server.state.lock().corrupt.insert(key(&large), wrong.into());
        for inputs in [Tree::default().file("in", "right"), Tree::default().file("in", &large_content)] {
            let (status, _) = grid.run(&shell("cat in"), &inputs).await;
            assert_eq!(code(&status), Code::Internal, "tried elsewhere");
        }
        grid.server.state.lock().corrupt.clear();
        let (status, result) = grid.run(&shell("cat in"), &Tree::default().file("in", "right")).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"right"[..]));
        assert_eq!(std::fs::read_dir(grid.path("cache/partial")).unwrap().count(), 0, "no halves are left");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_read_that_breaks_goes_on_where_it_was() {
        let grid = Grid::start().await;
        let content = "0123456789".repeat(200_000);
        grid.server.state.lock().broken_reads = 3;
        let inputs = Tree::default().file("in", &content);
        let (status, result) = grid.run(&shell("wc -c < in"), &inputs).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"2000000\n"[..]), "{}", status.message);
        assert_eq!(grid.server.state.lock().read_offsets, [0, 100_000, 200_000, 300_000]);

        // Parts of two contents: what was read before the break is given up.
        let right = content.replace('0', "x");
        let digest = grid.server.put(right.as_bytes());
        let wrong = Bytes::from(vec![7; 2_000_000]);
        grid.server.state.lock().broken_reads = 1;
        grid.server.state.lock().read_offsets.clear();
        grid.server.state.lock().corrupt.insert(key(&digest), wrong);
        let (status, result) = grid.run(&shell("head -c 1 in"), &Tree::default().file("in", &right)).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"x"[..]), "{}", status.message);
        assert_eq!(grid.server.state.lock().read_offsets, [0, 100_000, 0]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_with_smaller_batches_than_before_is_asked_for_its_limits_again() {
        let grid = Grid::start().await;
        works(&grid, "before").await;
        grid.server.state.lock().batch_limit = Some(30_000);
        let mut inputs = Tree::default();
        for n in 0..10 {
            inputs = inputs.file(&format!("small{n}"), format!("{n}").repeat(5_000));
        }
        inputs = inputs.file("large", "l".repeat(50_000));
        let script = "cat small* | sed s/^/a/ > one; for n in 1 2 3 4 5 6 7; do head -c 4000$n /dev/zero > z$n; done; cat large > two";
        let outputs = ["one", "two", "z1", "z2", "z3", "z4", "z5", "z6", "z7"];
        let (status, result) = grid.run(&making(script, &outputs), &inputs).await;
        assert_eq!((status.code, result.output_files.len()), (0, outputs.len()), "{}", status.message);
        let asked = grid.server.state.lock().calls["GetCapabilities"];
        works(&grid, "afterwards").await;
        assert_eq!(grid.server.state.lock().calls["GetCapabilities"], asked, "only after a refusal");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_is_away_is_waited_for() {
        let grid = Grid::start().await;
        for call in ["BatchReadBlobs", "FindMissingBlobs", "BatchUpdateBlobs", "UpdateBotSession"] {
            grid.server.fault(call, Some(Code::Unavailable));
            let before = grid.server.state.lock().calls.get(call).copied().unwrap_or(0);
            let inputs = Tree::default().file("in", call);
            let lease = grid.submit(&making("sed s/^/made-from-/ in > out", &["out"]), &inputs, |_| {});
            grid.server.until(|state| state.calls.get(call).copied().unwrap_or(0) >= before + 3).await;
            assert!(!grid.server.state.lock().results.contains_key(&lease), "{call}");
            grid.server.fault(call, None);
            let (status, result) = grid.result(&lease).await;
            assert_eq!((status.code, result.output_files.len()), (0, 1), "{call}: {}", status.message);
        }
        assert_eq!(grid.server.state.lock().sessions, 1, "the session outlived all of it");
    }

    /// A command that begins, and then waits until somebody writes to the pipe; with a large output and a small.
    fn gated(grid: &Grid, word: &str) -> (Command, std::path::PathBuf) {
        let gate = grid.path("signs").join(format!("gate-{word}"));
        let (open, sign) = (gate.display(), grid.path("signs").join(word));
        let script = format!(
            "mkfifo -m 666 {open}; : > {}; cat {open}; head -c 3000000 /dev/urandom > large; echo late > small",
            sign.display()
        );
        (making(&script, &["large", "small"]), gate)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn servers_that_restart_lose_neither_session_nor_lease_nor_result() {
        let mut grid = Grid::start().await;
        let server = grid.server.clone();
        let word = word(7);
        let (command, gate) = gated(&grid, &word);
        let lease = grid.submit(&command, &Tree::default(), |_| {});
        grid.begun(&word).await;
        // While it runs: the long poll breaks.
        grid.served.restart(&server, 4).await;
        // While it uploads.
        let restarted = async { grid.cas.restart(&server, 6).await };
        let opened = tokio::task::spawn_blocking(move || std::fs::write(gate, "").unwrap());
        let (opened, ()) = tokio::join!(opened, restarted);
        opened.unwrap();
        let (status, result) = grid.result(&lease).await;
        assert_eq!((status.code, result.output_files.len()), (0, 2), "{}", status.message);
        assert_eq!(server.get(result.output_files[0].digest.as_ref().unwrap()).len(), 3_000_000);
        // While it is told: the first report breaks off, whatever the server made of it.
        server.state.lock().deaf = true;
        let lease = grid.submit(&shell("true"), &Tree::default(), |_| {});
        server.until(|state| state.reported.contains_key(&lease)).await;
        grid.served.restart(&server, 2).await;
        let before = server.state.lock().reported[&lease];
        server.until(|state| state.reported[&lease] > before).await;
        server.state.lock().deaf = false;
        server.cancel(&lease);
        server.until(|state| state.report.leases.is_empty()).await;
        assert_eq!(server.state.lock().sessions, 1);
        // While it fetches.
        let inputs = Tree::default().file("small", "x").file("large", vec![7; 3_000_000]);
        let lease = {
            server.fault("BatchReadBlobs", Some(Code::Unavailable));
            grid.submit(&shell("cat small large | wc -c"), &inputs, |_| {})
        };
        let calls = server.state.lock().calls["BatchReadBlobs"];
        server.until(|state| state.calls["BatchReadBlobs"] > calls).await;
        server.fault("BatchReadBlobs", None);
        grid.cas.restart(&server, 6).await;
        let (status, result) = grid.result(&lease).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"3000001\n"[..]), "{}", status.message);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusing_cas_fails_the_lease_and_not_the_action() {
        let grid = Grid::start().await;
        for call in ["FindMissingBlobs", "BatchUpdateBlobs", "BatchReadBlobs"] {
            grid.server.fault(call, Some(Code::PermissionDenied));
            let (status, result) = grid
                .run(&making("sed s/^/made-from-/ in > out", &["out"]), &Tree::default().file("in", call))
                .await;
            assert_eq!(code(&status), Code::Unavailable, "{call}: {}", status.message);
            assert_eq!(result.output_files, []);
            grid.server.fault(call, None);
        }
        works(&grid, "afterwards").await;
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cancelled_action_leaves_no_process_and_no_directory() {
        let grid = Grid::start().await;
        // While it fetches.
        grid.server.fault("BatchReadBlobs", Some(Code::Unavailable));
        let lease = grid.submit(&shell("true"), &Tree::default().file("in", "x"), |_| {});
        grid.server.until(|state| state.calls.contains_key("BatchReadBlobs")).await;
        grid.server.cancel(&lease);
        grid.server.fault("BatchReadBlobs", None);
        works(&grid, "after-fetch").await;
        // While it runs.
        let word = word(1);
        let lease = grid.submit(&shell(&grid.endless(&word)), &Tree::default(), |_| {});
        grid.begun(&word).await;
        grid.server.cancel(&lease);
        gone(&word).await;
        works(&grid, "after-run").await;
        // While it uploads.
        grid.server.fault("FindMissingBlobs", Some(Code::Unavailable));
        let calls = grid.server.state.lock().calls["FindMissingBlobs"];
        let lease = grid.submit(&making("echo y > out", &["out"]), &Tree::default(), |_| {});
        grid.server.until(|state| state.calls["FindMissingBlobs"] > calls).await;
        grid.server.cancel(&lease);
        grid.server.fault("FindMissingBlobs", None);
        works(&grid, "after-upload").await;
        grid.swept().await;
        assert!(!grid.server.state.lock().results.contains_key(&lease));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_command_starts_ends_with_it() {
        let grid = Grid::start().await;
        let word = word(2);
        let script = format!(
            "(setsid sleep {word} &) ; (trap '' HUP TERM; sleep {word} &) ; sleep {word} & echo done"
        );
        let (status, result) = grid.run(&shell(&script), &Tree::default()).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"done\n"[..]));
        assert!(alive(&word).is_empty(), "all were dead before the result was told");
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_runner_fails_the_lease_and_is_found_again() {
        let mut grid = Grid::start().await;
        let word = word(3);
        let lease = grid.submit(&shell(&grid.endless(&word)), &Tree::default(), |_| {});
        grid.begun(&word).await;
        signal(grid.runner.as_ref(), Signal::KILL);
        let (status, _) = grid.result(&lease).await;
        assert_eq!(code(&status), Code::Unavailable);
        let told_as = grid.server.state.lock().told_as[&lease];
        assert_eq!(told_as, BotStatus::Unhealthy, "the retry must not come back to this worker");
        gone(&word).await;
        grid.runner.take().unwrap().wait().unwrap();
        grid.start_runner();
        grid.server.until(|state| state.report.status() == BotStatus::Ok).await;
        works(&grid, "afterwards").await;
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_disk_costs_the_cache_and_then_the_workers_health() {
        let grid = Grid::with(&["--disk-reserve", "4611686018427387904"]).await;
        grid.server.until(|state| state.report.status() == BotStatus::Unhealthy).await;
        // A server that gives it work all the same gets a result; what was cached for it goes.
        let (status, _) = grid.run(&shell("cat in"), &Tree::default().file("in", "x")).await;
        assert_eq!(status.code, 0);
        let hash = grid.server.put(b"x").hash;
        let shard = grid.path("cache/files").join(&hash[..2]);
        let empty = || std::fs::read_dir(&shard).unwrap().count() == 0;
        events::until(&shard, "an empty cache", empty).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_worker_leaves_nothing_that_its_successor_keeps() {
        let mut grid = Grid::start().await;
        let word = word(4);
        let endless = grid.endless(&word);
        let script = |step: &str| match step {
            "run" => making(&format!("mkdir -p a/b; chmod 0 a/b; {endless}"), &[]),
            step => making(&format!("echo {step} > out"), &["out"]),
        };
        for (step, held) in
            [("fetch", Some("BatchReadBlobs")), ("run", None), ("upload", Some("FindMissingBlobs"))]
        {
            // The directories are known to the server alone: what is cached is asked for by nobody.
            let inputs = Tree::default().file("in", "x").file(step, "");
            let calls = |state: &State| held.map_or(0, |call| state.calls.get(call).copied().unwrap_or(0));
            let before = calls(&grid.server.state.lock());
            if let Some(call) = held {
                grid.server.fault(call, Some(Code::Unavailable));
            }
            let lease = grid.submit(&script(step), &inputs, |_| {});
            match held {
                Some(_) => grid.server.until(|state| calls(state) > before).await,
                None => grid.begun(&word).await,
            }
            signal(grid.worker.as_ref(), Signal::KILL);
            grid.worker.take().unwrap().wait().unwrap();
            gone(&word).await;
            grid.server.cancel(&lease);
            if let Some(call) = held {
                grid.server.fault(call, None);
            }
            grid.start_worker();
            works(&grid, step).await;
            grid.swept().await;
            assert!(!grid.server.state.lock().results.contains_key(&lease), "{step}");
            assert_eq!(std::fs::read_dir(grid.path("cache/partial")).unwrap().count(), 0, "{step}");
        }
        // The cache is the old one: with the content gone from the server, only that can bring it.
        let (status, _) = grid.run(&shell("cat in"), &Tree::default().file("in", "x")).await;
        assert_eq!(status.code, 0);
        signal(grid.worker.as_ref(), Signal::KILL);
        grid.worker.take().unwrap().wait().unwrap();
        grid.start_worker();
        let lease = {
            grid.server.fault("BatchReadBlobs", Some(Code::Unavailable));
            let lease = grid.submit(&shell("cat in; true"), &Tree::default().file("in", "x"), |_| {});
            let content = grid.server.put(b"x");
            grid.server.state.lock().blobs.remove(&key(&content));
            grid.server.fault("BatchReadBlobs", None);
            lease
        };
        let (status, result) = grid.result(&lease).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"x"[..]), "{}", status.message);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_result_is_told_until_it_is_taken() {
        let grid = Grid::start().await;
        grid.server.state.lock().deaf = true;
        let lease = grid.submit(&shell("true"), &Tree::default(), |_| {});
        grid.server.until(|state| state.reported.get(&lease).is_some_and(|count| *count >= 3)).await;
        grid.server.state.lock().deaf = false;
        grid.server.cancel(&lease);
        grid.server.until(|state| state.report.leases.is_empty()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lost_session_is_opened_anew_without_its_leases() {
        let grid = Grid::start().await;
        let word = word(5);
        grid.submit(&shell(&grid.endless(&word)), &Tree::default(), |_| {});
        grid.begun(&word).await;
        grid.server.state.lock().leases.clear();
        grid.server.fault("UpdateBotSession", Some(Code::InvalidArgument));
        grid.server.until(|state| state.sessions >= 2).await;
        grid.server.fault("UpdateBotSession", None);
        gone(&word).await;
        works(&grid, "afterwards").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn aborted_calls_cost_no_work_unless_they_go_on() {
        let grid = Grid::start().await;
        let (first, second) = (word(6), word(8));
        let (command, gate) = gated(&grid, &first);
        let lease = grid.submit(&command, &Tree::default(), |_| {});
        grid.begun(&first).await;
        grid.server.state.lock().aborts = 4;
        std::fs::write(&gate, "go").unwrap();
        let (status, _) = grid.result(&lease).await;
        assert_eq!((status.code, grid.server.state.lock().sessions), (0, 1), "{}", status.message);

        // Another bot may have the session.
        grid.submit(&shell(&grid.endless(&second)), &Tree::default(), |_| {});
        grid.begun(&second).await;
        grid.server.state.lock().leases.clear();
        grid.server.state.lock().aborts = 6;
        grid.server.until(|state| state.sessions == 2).await;
        gone(&second).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_memory_no_work_is_taken() {
        let grid = Grid::with(&["--memory-reserve", "4611686018427387904"]).await;
        grid.server.until(|state| state.report.status() == BotStatus::Unhealthy).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_worker_may_call_the_runner() {
        if !is_root() {
            return;
        }
        let grid = Grid::start().await;
        works(&grid, "before").await;
        // As a command could try it: as the runner's own user.
        let socket = grid.path("run/socket");
        let script = format!(
            "use IO::Socket::UNIX; $SIG{{PIPE}}='IGNORE'; my $s=IO::Socket::UNIX->new(Peer=>'{}') or die 'no connection'; \
             print $s \"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0\"; $s->flush; \
             my $n=sysread($s,my $b,100); print defined $n ? $n : 'reset';",
            socket.display()
        );
        let (status, result) = grid
            .run(
                &Command { arguments: ["perl", "-e", &script].map(str::to_owned).to_vec(), ..shell("") },
                &Tree::default(),
            )
            .await;
        assert_eq!(status.code, 0);
        assert!(matches!(&*result.stdout_raw, b"0" | b"reset"), "{RUNNER_UID} was served: {result:?}");
    }
}
