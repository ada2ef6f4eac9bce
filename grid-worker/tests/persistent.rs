//! Persistent workers: one process does the work of many actions, each as if it were alone, and no trouble with it
//! changes a result.

#[cfg(test)]
mod grid;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command as Process;
    use std::sync::LazyLock;

    use grid_proto::reapi::platform::Property;
    use grid_proto::reapi::{ActionResult, Command, NodeProperties, NodeProperty, Platform};
    use grid_proto::rpc;
    use tonic::Code;

    use super::grid::events::{alive, gone};
    use super::grid::tree::Tree;
    use super::grid::{Grid, is_root};

    /// The tool, static: it needs nothing of its root.
    static TOOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/persistent/tool.c");
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("tool");
        let built = Process::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(source).status();
        assert!(built.unwrap().success(), "cc -static is needed");
        std::fs::read(program).unwrap()
    });

    /// What the tool does, in its own process or in one that stays.
    struct Work<'a> {
        /// A word among the arguments that start the tool, to find its processes by.
        word: &'a str,
        flags: &'a [&'a str],
        inputs: Tree,
        outputs: &'a [&'a str],
        form: &'a str,
        seconds: i64,
    }

    fn work<'a>(word: &'a str, flags: &'a [&'a str]) -> Work<'a> {
        Work { word, flags, inputs: Tree::default(), outputs: &[], form: "proto", seconds: 50 }
    }

    fn submit(grid: &Grid, work: Work<'_>) -> String {
        let tool = NodeProperty { name: "bazel_tool_input".to_owned(), value: String::new() };
        let marked = NodeProperties { properties: vec![tool], ..NodeProperties::default() };
        let inputs = work.inputs.program("bin/tool", &*TOOL).mark("bin/tool", marked);
        let inputs = inputs.file("flags", work.flags.join("\n"));
        let form = format!("--{}", work.form);
        let command = Command {
            arguments: ["bin/tool", work.word, &form, "@flags"].map(str::to_owned).to_vec(),
            output_paths: work.outputs.iter().map(|o| (*o).to_owned()).collect(),
            ..Command::default()
        };
        let properties = [("persistentWorkerKey", "k1"), ("persistentWorkerProtocol", work.form)];
        let property =
            |(name, value): (&str, &str)| Property { name: name.to_owned(), value: value.to_owned() };
        grid.submit(&command, &inputs, |action| {
            action.platform = Some(Platform { properties: properties.map(property).to_vec() });
            action.timeout = Some(prost_types::Duration { seconds: work.seconds, nanos: 0 });
        })
    }

    async fn run(grid: &Grid, work: Work<'_>) -> (rpc::Status, ActionResult) {
        let lease = submit(grid, work);
        grid.result(&lease).await
    }

    async fn said(grid: &Grid, work: Work<'_>) -> String {
        let (status, result) = run(grid, work).await;
        assert_eq!((status.code, result.exit_code), (0, 0), "{} {result:?}", status.message);
        String::from_utf8(result.stderr_raw.to_vec()).unwrap()
    }

    /// A word that no other test has.
    fn word(n: u32) -> String {
        format!("persistent-{}-{n}", std::process::id())
    }

    async fn does_the_work_of_many(mode: &str, form: &str, word: &str) {
        let grid = Grid::isolated(mode, &["--persistent-workers", "2", "--probe", "none"]).await;
        for number in 1..=3 {
            let content = format!("content {number}");
            let digest = grid_core::Digest::of(grid_core::DigestFunction::Sha256, content.as_bytes());
            let (own, made) = (format!("in{number}"), format!("sub/out{number}"));
            let (copy, look) = (format!("copy:{own}:{made}"), format!("input:{own}"));
            let inputs = Tree::default().file(&own, &content).file("same", "same");
            let flags = ["list", &copy, if form == "proto" { &look } else { "list" }];
            let work = Work { inputs, outputs: &[&made], form, ..work(word, &flags) };
            let (status, result) = run(&grid, work).await;
            assert_eq!((status.code, result.exit_code), (0, 0), "{} {result:?}", status.message);
            let output = &result.output_files[0];
            assert_eq!(grid.server.get(output.digest.as_ref().unwrap()), content);
            let text = String::from_utf8(result.stderr_raw.to_vec()).unwrap();
            let seen = format!("bin flags in{number} same sub ");
            let told = if form == "proto" { digest.hash_hex() } else { seen.clone() };
            assert_eq!(
                text,
                format!("stayed {number}: {seen}{told}"),
                "nothing of the actions before is seen"
            );
            assert_eq!(alive(word).len(), 1);
        }
        // What the tool says is wrong is the action's end, and no trouble.
        let (status, result) = run(&grid, Work { form, ..work(word, &["exit:7"]) }).await;
        assert_eq!((status.code, result.exit_code), (0, 7));
        let text = said(&grid, Work { form, ..work(word, &["say:again"]) }).await;
        assert_eq!(text, "stayed 5: again");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_does_the_work_of_many_actions_in_both_forms() {
        if is_root() {
            does_the_work_of_many("plain", "proto", &word(1)).await;
            does_the_work_of_many("plain", "json", &word(2)).await;
            gone(&word(1)).await;
            gone(&word(2)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_does_the_work_of_many_actions_in_a_root_of_its_own() {
        if is_root() {
            does_the_work_of_many("bubblewrap", "proto", &word(3)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn trouble_with_a_process_ends_it_and_not_the_action() {
        if !is_root() {
            return;
        }
        let grid = Grid::with(&["--persistent-workers", "2", "--memory-limit", "200000000"]).await;
        let word = word(5);
        for trouble in ["die", "garbage", "twice", "memory"] {
            assert_eq!(said(&grid, work(&word, &["say:well"])).await, "stayed 1: well", "{trouble}");
            let inputs = Tree::default().file("in", trouble);
            let flags = [trouble, "copy:in:out", "say:done"];
            let (status, result) =
                run(&grid, Work { inputs, outputs: &["out"], ..work(&word, &flags) }).await;
            assert_eq!((status.code, result.exit_code), (0, 0), "{trouble}: {}", status.message);
            assert_eq!(&*result.stderr_raw, b"alone 1: done", "{trouble}");
            assert_eq!(grid.server.get(result.output_files[0].digest.as_ref().unwrap()), trouble);
            gone(&word).await;
        }
        // A time that is over is over: nothing is tried twice for it.
        let (status, _) = run(&grid, Work { seconds: 1, ..work(&word, &["hang"]) }).await;
        assert_eq!(Code::from_i32(status.code), Code::DeadlineExceeded);
        gone(&word).await;
        // Nor is anything left of an action that is taken back.
        let lease = submit(&grid, work(&word, &["hang"]));
        grid.server.until(|state| state.report.leases.iter().any(|l| l.id == lease)).await;
        grid.server.cancel(&lease);
        assert_eq!(said(&grid, work(&word, &["say:well"])).await, "stayed 1: well");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_process_does_after_its_answer_reaches_no_result() {
        if !is_root() {
            return;
        }
        let grid = Grid::with(&["--persistent-workers", "2"]).await;
        let word = word(6);
        let (_, result) = run(&grid, Work { outputs: &["."], ..work(&word, &["late:evil"]) }).await;
        let digest = result.output_directories[0].tree_digest.clone().unwrap();
        let tree: grid_proto::reapi::Tree = grid.server.get_message(&digest);
        assert_eq!(tree.root.unwrap().files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["flags"]);
        // Stopped, it can't use the time between two actions.
        assert!(alive(&word).iter().all(|pid| is_stopped(pid.as_raw_pid())), "all of it is stopped");
    }

    fn is_stopped(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn processes_are_few_go_when_idle_and_are_not_shared_by_others() {
        if !is_root() {
            return;
        }
        let grid = Grid::with(&["--persistent-workers", "1", "--persistent-worker-idle", "2"]).await;
        let (one, other) = (word(7), word(8));
        assert_eq!(said(&grid, work(&one, &["say:a"])).await, "stayed 1: a");
        // Other arguments, another process; for which the first has to go.
        assert_eq!(said(&grid, work(&other, &["say:b"])).await, "stayed 1: b");
        gone(&one).await;
        gone(&other).await;
        // Without leave there are none.
        let grid = Grid::start().await;
        assert_eq!(said(&grid, work(&one, &["say:c"])).await, "alone 1: c");
    }
}
