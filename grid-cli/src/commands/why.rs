//! `why`: what an operation waits for, in words.

use grid_proto::fleet::{
    Attempt, Explanation, Mismatch, PastWait, PoolVerdict, Property, WaitReason, WhyRequest,
};

use crate::args::connection::Connection;
use crate::commands::{operations, times};
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::remote::Remote;

const EXAMPLES: &str = "\
Examples:
  grid why main/3f0d3a52-8b51-4b43-8a0e-5f0b9a2b4f6a --auth-token admin.token
  grid why main/3f0d3a52-8b51-4b43-8a0e-5f0b9a2b4f6a --json | jq -r .reason
";

/// Say why an operation has not finished.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Name of the operation, or of its job
    operation: String,
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let remote = Remote::connect(&self.connection).await?;
        let request = WhyRequest { operation: operations::qualified(&remote, &self.operation) };
        let what = format!("ask why {} has not finished", self.operation);
        let explanation = remote
            .call(&what, || {
                let (mut client, request) = (remote.fleet(), request.clone());
                async move { client.why(request).await }
            })
            .await?;
        if self.connection.json {
            printer.message(&explanation)?;
        } else {
            print(&explanation, printer)?;
        }
        Ok(Exit::Success)
    }
}

fn print(explanation: &Explanation, printer: &mut Printer<'_>) -> Result<(), Failure> {
    printer.line(format_args!("{}  {}", explanation.operation, operations::stage_name(explanation.stage)))?;
    printer.line(&explanation.text)?;
    let mut facts = vec![("reason", reason(explanation.reason())), ("pool", explanation.pool.clone())];
    if explanation.queue_position > 0 {
        facts.push(("jobs before it", explanation.queue_position.to_string()));
    }
    let durations = [("waited", &explanation.waited), ("expected wait", &explanation.expected_wait)];
    facts.extend(
        durations.map(|(name, value)| (name, value.as_ref().map(times::duration).unwrap_or_default())),
    );
    facts.push(("fails at", explanation.fails_at.as_ref().map(ToString::to_string).unwrap_or_default()));
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        printer.line(format_args!("  {name:14}  {value}"))?;
    }
    if let Some(mismatch) = &explanation.mismatch {
        print_mismatch(mismatch, printer)?;
    }
    explanation.pools.iter().try_for_each(|pool| print_verdict(pool, printer))?;
    explanation.waits.iter().try_for_each(|wait| print_wait(wait, printer))?;
    explanation.attempts.iter().try_for_each(|attempt| print_attempt(attempt, printer))
}

fn reason(reason: WaitReason) -> String {
    reason.as_str_name().trim_start_matches("WAIT_REASON_").to_ascii_lowercase()
}

fn print_wait(wait: &PastWait, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let moment =
        |at: &Option<prost_types::Timestamp>| at.as_ref().map(ToString::to_string).unwrap_or_default();
    let (since, until) = (moment(&wait.since), moment(&wait.until));
    printer.line(format_args!("  waited {since} to {until}: {}: {}", reason(wait.reason()), wait.text))
}

fn print_attempt(attempt: &Attempt, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let ended = attempt.ended_at.as_ref().map(ToString::to_string).unwrap_or_default();
    let Attempt { number, bot, ending, .. } = attempt;
    printer.line(format_args!("  attempt {number} on {bot}: {ending} at {ended}"))
}

fn print_mismatch(mismatch: &Mismatch, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let nearest = if mismatch.nearest_pool.is_empty() { "no pool" } else { &mismatch.nearest_pool };
    printer.line(format_args!("  nearest         {nearest} lacks {}", properties(&mismatch.missing)))?;
    if mismatch.offered_values.is_empty() {
        return Ok(());
    }
    printer.line(format_args!("  pools offer     {}", mismatch.offered_values.join(", ")))
}

fn print_verdict(pool: &PoolVerdict, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let verdict = match pool.missing.as_slice() {
        [] => "fits".to_owned(),
        missing => format!("lacks {}", properties(missing)),
    };
    printer
        .line(format_args!("  {}: {verdict} ({} bots, at most {})", pool.pool, pool.bots, pool.max_workers))
}

/// Properties as `key=value`.
pub(crate) fn properties(properties: &[Property]) -> String {
    let pairs: Vec<_> =
        properties.iter().map(|property| format!("{}={}", property.key, property.value)).collect();
    pairs.join(", ")
}
