//! Outputs to the letter of REAPI, with real commands through the real worker and runner.

#[cfg(test)]
mod grid;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use grid_proto::reapi::command::{EnvironmentVariable, OutputDirectoryFormat};
    use grid_proto::reapi::{
        ActionResult, Command, Directory, ExecutedActionMetadata, NodeProperties, OutputDirectory,
        Tree as TreeMessage,
    };
    use grid_proto::resourceusage::PosixResourceUsage;
    use grid_proto::{any, rpc};
    use prost_types::{Duration, Timestamp};
    use tonic::Code;

    use super::grid::tree::Tree;
    use super::grid::{Grid, making, shell};

    /// Runs a command that must end with 0.
    async fn made(grid: &Grid, command: &Command, inputs: &Tree) -> ActionResult {
        let (status, result) = grid.run(command, inputs).await;
        assert_eq!(status.code, 0, "{}", status.message);
        assert_eq!(result.exit_code, 0, "{:?}", result.stderr_raw);
        result
    }

    /// Runs a command whose lease must fail.
    async fn refused(grid: &Grid, command: &Command, inputs: &Tree, code: Code) -> rpc::Status {
        let (status, _) = grid.run(command, inputs).await;
        assert_eq!(Code::from_i32(status.code), code, "{}", status.message);
        status
    }

    fn files(grid: &Grid, result: &ActionResult) -> BTreeMap<String, (String, bool)> {
        let content =
            |digest: Option<&_>| String::from_utf8(grid.server.get(digest.unwrap()).to_vec()).unwrap();
        result
            .output_files
            .iter()
            .map(|f| (f.path.clone(), (content(f.digest.as_ref()), f.is_executable)))
            .collect()
    }

    fn tree(grid: &Grid, directory: &OutputDirectory) -> TreeMessage {
        grid.server.get_message(directory.tree_digest.as_ref().unwrap())
    }

    fn names(directory: &Directory) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
        (
            directory.files.iter().map(|f| f.name.as_str()).collect(),
            directory.directories.iter().map(|d| d.name.as_str()).collect(),
            directory.symlinks.iter().map(|s| s.name.as_str()).collect(),
        )
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_modes_logs_and_exit_codes() {
        let grid = Grid::start().await;
        let script = "#!/bin/sh\ncat a/in > out; cp a/in run; chmod 700 run; echo hi; echo no >&2; exit 3";
        let inputs = Tree::default().file("a/in", "hello").program("bin/tool", script);
        let command = making("./bin/tool", &["run", "out", "not-made", "deep/not-made"]);
        let (status, result) = grid.run(&command, &inputs).await;
        assert_eq!((status.code, result.exit_code), (0, 3));
        assert_eq!((&*result.stdout_raw, &*result.stderr_raw), (&b"hi\n"[..], &b"no\n"[..]));
        let expected = [("out", ("hello", false)), ("run", ("hello", true))];
        let expected = expected.map(|(path, (text, x))| (path.to_owned(), (text.to_owned(), x)));
        assert_eq!(files(&grid, &result), BTreeMap::from(expected));

        // By a signal: 128 and its number; a long log goes to the CAS.
        let (_, result) = grid.run(&shell("seq 100000; kill -TERM $$"), &Tree::default()).await;
        assert_eq!(result.exit_code, 128 + 15);
        let log = grid.server.get(result.stdout_digest.as_ref().unwrap());
        assert!(result.stdout_raw.is_empty() && log.ends_with(b"\n100000\n"));

        // Never started: as a shell says it.
        for (program, code) in
            [("./missing", 127), ("missing", 127), ("a/in", 126), ("./bad-interpreter", 127)]
        {
            let inputs = inputs.clone().program("bad-interpreter", "#!/no/such/interpreter\n");
            let command = Command { arguments: vec![program.to_owned()], ..Command::default() };
            let (status, result) = grid.run(&command, &inputs).await;
            assert_eq!((status.code, result.exit_code), (0, code), "{program}");
            assert!(String::from_utf8_lossy(&result.stderr_raw).contains(program), "{program}");
        }
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn how_a_command_failed_is_told_whatever_its_outputs_are() {
        let grid = Grid::start().await;
        let script = "echo a > a; mkfifo fifo; mkdir d; mkfifo d/fifo; echo why >&2";
        let outputs = &["a", "d", "fifo"];
        let (status, result) =
            grid.run(&making(&format!("{script}; exit 3"), outputs), &Tree::default()).await;
        assert_eq!((status.code, result.exit_code, &*result.stderr_raw), (0, 3, &b"why\n"[..]));
        assert_eq!(files(&grid, &result).into_keys().collect::<Vec<_>>(), ["a"]);
        assert!(result.output_directories.is_empty());
        let command = making(&format!("{script}; sleep 1000"), outputs);
        let lease = grid.submit(&command, &Tree::default(), |action| {
            action.timeout = Some(Duration { seconds: 1, nanos: 0 });
        });
        let (status, result) = grid.result(&lease).await;
        assert_eq!(Code::from_i32(status.code), Code::DeadlineExceeded, "{}", status.message);
        assert_eq!(files(&grid, &result).into_keys().collect::<Vec<_>>(), ["a"]);
        // One that succeeded has no result without them.
        refused(&grid, &making(script, outputs), &Tree::default(), Code::InvalidArgument).await;
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn environment_and_working_directory_are_as_given() {
        let grid = Grid::start().await;
        let inputs = Tree::default().file("w/x/in", "hello").program("w/x/tool", "#!/bin/sh\necho \"$0\"\n");
        let mut command =
            making("env | sort; cat in; /bin/pwd; cp in ../out/copy; cp in here", &["../out/copy", "here"]);
        command.working_directory = "w/x".to_owned();
        let variable =
            |name: &str, value: &str| EnvironmentVariable { name: name.to_owned(), value: value.to_owned() };
        command.environment_variables.extend([
            variable("B", "a=b c"),
            variable("EMPTY", ""),
            variable("TMPDIR", "/t"),
        ]);
        let result = made(&grid, &command, &inputs).await;
        let text = String::from_utf8(result.stdout_raw.to_vec()).unwrap();
        let (environment, rest) = text.split_once("hello").unwrap();
        let lines: Vec<&str> = environment.lines().filter(|l| !l.starts_with("PWD=")).collect();
        assert_eq!(lines, ["B=a=b c", "EMPTY=", "PATH=/usr/bin:/bin", "TMPDIR=/t"], "nothing is added");
        assert!(Path::new(rest.trim()).ends_with("root/w/x"), "{rest}");
        let paths: Vec<_> = files(&grid, &result).into_keys().collect();
        assert_eq!(paths, ["../out/copy", "here"], "as the client wrote them");

        // A path with a slash is relative to the working directory, and the program sees it as it was given.
        let command = Command {
            arguments: vec!["./tool".to_owned()],
            working_directory: "w/x".to_owned(),
            ..Command::default()
        };
        assert_eq!(made(&grid, &command, &inputs).await.stdout_raw, "./tool\n");
        // A working directory that no input makes is made.
        let mut command = shell("/bin/pwd; ls -A");
        command.working_directory = "new/dir".to_owned();
        let said = made(&grid, &command, &inputs).await.stdout_raw;
        assert!(Path::new(String::from_utf8_lossy(&said).trim()).ends_with("root/new/dir"));
        // Without one, there is a directory for temporary files.
        made(&grid, &shell("echo x > $TMPDIR/f && rm $TMPDIR/f"), &Tree::default()).await;
        for bad in ["../x", "/x"] {
            let command = Command { working_directory: bad.to_owned(), ..shell("true") };
            assert!(refused(&grid, &command, &inputs, Code::InvalidArgument).await.message.contains(bad));
        }
        refused(&grid, &Command::default(), &inputs, Code::InvalidArgument).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn directories_are_trees_parents_first_each_once() {
        let grid = Grid::start().await;
        let script = "mkdir -p d/a/same d/b/same d/empty; echo 1 > d/a/same/f; echo 1 > d/b/same/f; \
                      echo 2 > d/z; chmod +x d/z; ln -s nowhere d/link; ln -s /absolute d/a/link";
        let command = making(script, &["d"]);
        let result = made(&grid, &command, &Tree::default()).await;
        let output = &result.output_directories[0];
        assert!(output.is_topologically_sorted && output.root_directory_digest.is_none());
        let message = tree(&grid, output);
        let root = message.root.clone().unwrap();
        assert_eq!(names(&root), (vec!["z"], vec!["a", "b", "empty"], vec!["link"]));
        assert!(root.files[0].is_executable);
        assert_eq!(root.symlinks[0].target, "nowhere");
        // a, b, the empty one, and what both share: once.
        assert_eq!(message.children.len(), 4);
        let digests: Vec<_> = message.children.iter().map(|d| grid.server.put_message(d)).collect();
        for (place, directory) in message.children.iter().enumerate() {
            for child in &directory.directories {
                let at = digests.iter().position(|d| Some(d) == child.digest.as_ref()).unwrap();
                assert!(at > place, "a child comes after its parents");
            }
        }

        for (format, trees, directories) in [
            (OutputDirectoryFormat::TreeOnly, true, false),
            (OutputDirectoryFormat::DirectoryOnly, false, true),
            (OutputDirectoryFormat::TreeAndDirectory, true, true),
        ] {
            let command = Command { output_directory_format: format.into(), ..command.clone() };
            let result = made(&grid, &command, &Tree::default()).await;
            let output = &result.output_directories[0];
            assert_eq!(output.tree_digest.is_some(), trees);
            assert_eq!(output.root_directory_digest.is_some(), directories);
            if directories {
                let found: Directory =
                    grid.server.get_message(output.root_directory_digest.as_ref().unwrap());
                assert_eq!(found, root);
                for child in &found.directories {
                    let _: Directory = grid.server.get_message(child.digest.as_ref().unwrap());
                }
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_working_directory_itself_can_be_an_output() {
        let grid = Grid::start().await;
        let mut command = shell("echo 1 > made");
        command.output_directories = vec![String::new()];
        let result = made(&grid, &command, &Tree::default().file("input", "x")).await;
        assert_eq!(result.output_directories[0].path, "");
        let root = tree(&grid, &result.output_directories[0]).root.unwrap();
        assert_eq!(names(&root).0, ["input", "made"], "inputs belong to it");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn links_are_described_and_not_followed() {
        let grid = Grid::start().await;
        let inputs = Tree::default().file("in", "x").link("given", "in");
        let script = "ln -s in file; ln -s /etc dir; ln -s gone dangling; mkdir real; rmdir through; ln -s real/sub through; mkdir real/sub; echo 1 > real/sub/f";
        let result =
            made(&grid, &making(script, &["file", "dir", "dangling", "given", "through/f"]), &inputs).await;
        let links: Vec<_> =
            result.output_symlinks.iter().map(|l| (l.path.as_str(), l.target.as_str())).collect();
        assert_eq!(links, [("dangling", "gone"), ("dir", "/etc"), ("file", "in"), ("given", "in")]);
        assert_eq!(result.output_files[0].path, "through/f", "a link inside the root leads to an output");
        assert!(result.output_file_symlinks.is_empty() && result.output_directory_symlinks.is_empty());

        let mut command = shell(script);
        command.output_files = vec!["file".to_owned()];
        command.output_directories = vec!["dir".to_owned()];
        let result = made(&grid, &command, &inputs).await;
        assert_eq!(result.output_file_symlinks[0].path, "file");
        assert_eq!(result.output_directory_symlinks[0].path, "dir");
        assert_eq!(result.output_symlinks.len(), 2, "for clients of REAPI 2.1 too");

        // Through a link that leaves the root there is nothing to be had.
        let escape = making("rmdir out; ln -s /etc out", &["out/passwd"]);
        assert!(
            refused(&grid, &escape, &inputs, Code::InvalidArgument)
                .await
                .message
                .contains("out of the input root")
        );
        let escape = making("rmdir out; ln -s ../../../../../../etc out", &["out/passwd"]);
        refused(&grid, &escape, &inputs, Code::InvalidArgument).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_described_is_refused_by_name() {
        let grid = Grid::start().await;
        let none = Tree::default();
        for (script, outputs, said) in [
            ("mkfifo d", &["d"][..], "FIFO"),
            ("mkdir d; mkfifo d/pipe", &["d"], "d/pipe"),
            ("mkdir d; touch \"$(printf 'd/a\\377')\"", &["d"], "a\\xff"),
            ("ln -s \"$(printf 'a\\377')\" d", &["d"], "UTF-8"),
            (
                "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local=>\"d\",Listen=>1) or die'",
                &["d"],
                "socket",
            ),
        ] {
            let status = refused(&grid, &making(script, outputs), &none, Code::InvalidArgument).await;
            assert!(status.message.contains(said), "{script}: {}", status.message);
        }
        let mut command = shell("mkdir f; touch d");
        command.output_files = vec!["f".to_owned()];
        assert!(
            refused(&grid, &command, &none, Code::InvalidArgument).await.message.contains("is a directory")
        );
        (command.output_files, command.output_directories) = (vec![], vec!["d".to_owned()]);
        assert!(refused(&grid, &command, &none, Code::InvalidArgument).await.message.contains("is a file"));
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn parents_of_outputs_are_there_and_outputs_are_not() {
        let grid = Grid::start().await;
        let script =
            "test -d a/b && test ! -e a/b/c && test -d e && test ! -e e/f && echo 1 > a/b/c && echo 2 > e/f";
        let result = made(&grid, &making(script, &["a/b/c", "e/f"]), &Tree::default()).await;
        assert_eq!(result.output_files.len(), 2);
        let mut command = shell("test -d p && test ! -e p/d && mkdir p/d");
        command.output_directories = vec!["p/d".to_owned()];
        assert_eq!(made(&grid, &command, &Tree::default()).await.output_directories.len(), 1);
        // An input in a parent's place.
        refused(&grid, &making("true", &["a/x"]), &Tree::default().file("a", ""), Code::InvalidArgument)
            .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn outputs_may_replace_inputs_and_the_cache_does_not_change() {
        let grid = Grid::start().await;
        let inputs = Tree::default().file("in", "old").file("dir/in", "old");
        let replace = making("rm in dir/in; echo new > in; echo new > dir/in", &["in", "dir/in"]);
        for _ in 0..2 {
            let result = made(&grid, &replace, &inputs).await;
            assert!(files(&grid, &result).values().all(|(text, _)| text == "new\n"));
        }
        // Writing into an input in place fails, or changes only the action's own copy.
        grid.run(&making("chmod u+w in; echo evil > in", &["in"]), &inputs).await;
        let result = made(&grid, &making("cat in", &["in"]), &inputs).await;
        assert_eq!(result.stdout_raw, "old");
        assert_eq!(files(&grid, &result)["in"].0, "old");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn node_properties_go_both_ways() {
        let grid = Grid::start().await;
        let time = Timestamp { seconds: 1_000_000_000, nanos: 500_000_000 };
        let properties = NodeProperties { mtime: Some(time), ..NodeProperties::default() };
        let inputs = Tree::default().file_with("in", "x", properties).file("plain", "x");
        let mut command = making(
            "stat -c %Y in; touch -d @5 out; chmod 640 out; mkdir d; chmod 750 d; cp -p out d/f",
            &["out", "d"],
        );
        let result = made(&grid, &command, &inputs).await;
        assert_eq!(result.stdout_raw, "1000000000\n");
        assert_eq!(result.output_files[0].node_properties, None, "only where it is asked for");
        command.output_node_properties = vec!["mtime".to_owned(), "unix_mode".to_owned()];
        let result = made(&grid, &command, &inputs).await;
        let properties = result.output_files[0].node_properties.clone().unwrap();
        assert_eq!(properties.mtime, Some(Timestamp { seconds: 5, nanos: 0 }));
        assert_eq!(properties.unix_mode, Some(0o640), "as the command made it, not as the worker reads it");
        let root = tree(&grid, &result.output_directories[0]).root.unwrap();
        assert_eq!(root.node_properties.clone().unwrap().unix_mode, Some(0o750));
        let inner = root.files[0].node_properties.clone().unwrap();
        assert_eq!((inner.mtime.unwrap().seconds, inner.unix_mode), (5, Some(0o640)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_timeout_gives_what_was_made_until_then() {
        let grid = Grid::start().await;
        let command = making("echo 1 > out; echo begun; sleep 1000", &["out"]);
        let lease = grid.submit(&command, &Tree::default(), |action| {
            action.timeout = Some(Duration { seconds: 1, nanos: 0 });
        });
        let (status, result) = grid.result(&lease).await;
        assert_eq!(Code::from_i32(status.code), Code::DeadlineExceeded);
        assert_eq!(result.stdout_raw, "begun\n");
        assert_eq!(files(&grid, &result)["out"].0, "1\n");
        assert_eq!(result.exit_code, 137);
        grid.swept().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn all_moments_and_the_use_of_resources_are_told() {
        let grid = Grid::start().await;
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo 1 > out";
        let result = made(&grid, &making(script, &["out"]), &Tree::default()).await;
        let metadata: ExecutedActionMetadata = result.execution_metadata.unwrap();
        let moments = [
            metadata.worker_start_timestamp,
            metadata.input_fetch_start_timestamp,
            metadata.input_fetch_completed_timestamp,
            metadata.execution_start_timestamp,
            metadata.execution_completed_timestamp,
            metadata.output_upload_start_timestamp,
            metadata.output_upload_completed_timestamp,
            metadata.worker_completed_timestamp,
        ]
        .map(|moment| moment.map(|m| (m.seconds, m.nanos)).expect("every moment is told"));
        assert!(moments.is_sorted());
        assert_eq!(metadata.worker, "bot");
        assert!(metadata.virtual_execution_duration.is_some());
        let usage: PosixResourceUsage = any::unpack(&metadata.auxiliary_metadata[0]).unwrap();
        assert!(usage.user_time.unwrap().nanos > 0 && usage.maximum_resident_set_size > 100_000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn logs_are_shown_while_they_grow() {
        let grid = Grid::start().await;
        let (out, err) = ("logs/1/write", "logs/2/write");
        grid.server.state.lock().stdout_stream = out.to_owned();
        grid.server.state.lock().stderr_stream = err.to_owned();
        let gate = grid.path("gate");
        let script = format!("echo one; while test ! -e {}; do sleep 0.05; done; echo two", gate.display());
        let lease = grid.submit(&shell(&script), &Tree::default(), |_| {});
        grid.server.until(|state| state.streams.get(out).is_some_and(|(text, _)| text == b"one\n")).await;
        std::fs::write(&gate, "").unwrap();
        let (status, result) = grid.result(&lease).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"one\ntwo\n"[..]));
        let state = grid.server.state.lock();
        assert_eq!(state.streams[out], (b"one\ntwo\n".to_vec(), true));
        assert_eq!(state.streams[err], (Vec::new(), true));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_goes_on_after_calls_that_break() {
        let grid = Grid::start().await;
        let out = "logs/1/write";
        grid.server.state.lock().stdout_stream = out.to_owned();
        grid.server.state.lock().cuts = 2;
        let gate = grid.path("gate");
        let script = format!("echo one; while test ! -e {}; do sleep 0.05; done; echo two", gate.display());
        let lease = grid.submit(&shell(&script), &Tree::default(), |_| {});
        grid.server.until(|state| state.streams.get(out).is_some_and(|(text, _)| text == b"one\n")).await;
        grid.server.state.lock().cuts = 1;
        std::fs::write(&gate, "").unwrap();
        let (status, result) = grid.result(&lease).await;
        assert_eq!((status.code, &*result.stdout_raw), (0, &b"one\ntwo\n"[..]));
        let state = grid.server.state.lock();
        assert_eq!((&state.streams[out], state.cuts), (&(b"one\ntwo\n".to_vec(), true), 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn batches_are_compressed_where_both_sides_want_it() {
        let content = "the same line\n".repeat(1_000);
        let inputs = Tree::default().file("in", &content).file("small", "x").file("empty", "");
        for (offered, asked, used) in [(true, true, true), (false, true, false), (true, false, false)] {
            let grid = Grid::with(if asked { &["--zstd"] } else { &[] }).await;
            grid.server.state.lock().zstd = offered;
            let result = made(&grid, &making("cat in small empty in > out", &["out"]), &inputs).await;
            assert_eq!(files(&grid, &result)["out"].0, format!("{content}x{content}"));
            assert_eq!(grid.server.state.lock().compressed > 0, used, "offered {offered}, asked {asked}");
            // What was compressed is checked as what was not.
            let wrong = grid.server.put(b"right");
            grid.server.corrupt(&wrong, b"wrong");
            refused(&grid, &shell("cat in"), &Tree::default().file("in", "right"), Code::Internal).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn large_files_travel_in_pieces_both_ways() {
        let grid = Grid::start().await;
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let inputs = Tree::default().file("in", &content);
        let result = made(&grid, &making("cat in in > out", &["out"]), &inputs).await;
        let made_content = grid.server.get(result.output_files[0].digest.as_ref().unwrap());
        assert_eq!(made_content.len(), content.len() * 2);
        assert!(made_content.ends_with(&content));
        let calls = grid.server.state.lock().calls.clone();
        assert!(calls["Read"] >= 1 && calls["Write"] >= 1);
        // The same again asks for nothing and sends nothing.
        made(&grid, &making("cat in in > out; true", &["out"]), &inputs).await;
        let again = grid.server.state.lock().calls.clone();
        assert_eq!((calls["Read"], calls["Write"]), (again["Read"], again["Write"]));
    }
}
