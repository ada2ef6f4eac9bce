//! What actions of each kind took.

use std::time::Duration;

use grid_proto::fleet::{DurationQuantiles, SizeClass, SizeClassesRequest};

use crate::commands::times;
use crate::exit::Failure;
use crate::printer::Printer;
use crate::remote::Remote;

/// Prints the kinds of actions, those that took most time in all first.
pub(super) async fn list(
    remote: &Remote,
    within: Duration,
    json: bool,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let answer = remote.call("get the size classes", || {
        let mut client = remote.fleet();
        let request = SizeClassesRequest { within: Some(times::to_wire(within)) };
        async move { client.get_size_classes(request).await }
    });
    let classes = answer.await?.classes;
    if json {
        return classes.iter().try_for_each(|class| printer.message(class));
    }
    let rows: Vec<_> = classes.iter().map(row).collect();
    let head =
        ["MNEMONIC", "TOOL", "FINISHED", "LOST", "RUN P50", "RUN P99", "CPU P99", "MEMORY P50", "MEMORY MAX"];
    printer.table(&head, &rows)
}

fn row(class: &SizeClass) -> Vec<String> {
    let named = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
    let time = |of: Option<&DurationQuantiles>,
                at: fn(&DurationQuantiles) -> Option<&prost_types::Duration>| {
        of.and_then(at).map_or_else(|| "-".to_owned(), times::precise)
    };
    let memory = class.memory.as_ref();
    vec![
        named(&class.action_mnemonic),
        named(&class.tool_name),
        class.finished.to_string(),
        class.workers_lost.to_string(),
        time(class.run_time.as_ref(), |of| of.p50.as_ref()),
        time(class.run_time.as_ref(), |of| of.p99.as_ref()),
        time(class.cpu_time.as_ref(), |of| of.p99.as_ref()),
        memory.map_or_else(|| "-".to_owned(), |of| mebibytes(of.p50)),
        memory.map_or_else(|| "-".to_owned(), |of| mebibytes(of.max)),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
