//! Drains: begin, follow, list and end them.

use std::time::Duration;

use grid_proto::fleet::drain_target::Target;
use grid_proto::fleet::{
    DrainReason, DrainRequest, DrainState, DrainStatus, DrainTarget, GetDrainRequest, ListDrainsRequest,
    UndrainRequest,
};

use crate::commands::times;
use crate::exit::Failure;
use crate::printer::Printer;
use crate::remote::Remote;
use crate::remote::retry::Tries;

/// Begins a drain and prints how far it is, to its end if `wait`.
pub(super) async fn drain(
    remote: &Remote,
    target: DrainTarget,
    grace: Duration,
    wait: bool,
    json: bool,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let request = DrainRequest {
        targets: vec![target.clone()],
        grace: Some(times::to_wire(grace)),
        reason: DrainReason::Manual as i32,
    };
    let begun = remote.call("drain", || {
        let (mut client, request) = (remote.fleet(), request.clone());
        async move { client.drain(request).await }
    });
    for status in begun.await?.drains {
        print(&status, json, printer)?;
    }
    if wait { follow(remote, target, json, printer).await } else { Ok(()) }
}

/// Prints each change until nothing runs any more.
async fn follow(
    remote: &Remote,
    target: DrainTarget,
    json: bool,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let failed = |status| Failure::rpc("follow the drain", status);
    let mut tries = Tries::new(remote.retry());
    loop {
        let request = GetDrainRequest { target: Some(target.clone()) };
        let mut updates = match remote.fleet().watch_drain(request).await {
            Ok(updates) => updates.into_inner(),
            Err(status) => {
                tries.again(status).await.map_err(failed)?;
                continue;
            }
        };
        loop {
            match updates.message().await {
                Ok(Some(status)) => {
                    tries.reset();
                    print(&status, json, printer)?;
                    printer.flush()?;
                    if status.state() == DrainState::Drained {
                        return Ok(());
                    }
                }
                // Servers end it with the state DRAINED; a proxy may end it before.
                Ok(None) => break tries.again(tonic::Status::unavailable("the updates ended")).await,
                Err(status) => break tries.again(status).await,
            }
        }
        .map_err(failed)?;
    }
}

/// Ends a drain.
pub(super) async fn undrain(remote: &Remote, target: DrainTarget) -> Result<(), Failure> {
    let request = UndrainRequest { targets: vec![target] };
    let ended = remote.call("undrain", || {
        let (mut client, request) = (remote.fleet(), request.clone());
        async move { client.undrain(request).await }
    });
    ended.await.map(drop)
}

/// Prints all drains.
pub(super) async fn list(remote: &Remote, json: bool, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let mut request = ListDrainsRequest::default();
    loop {
        let page = remote.call("list the drains", || {
            let (mut client, request) = (remote.fleet(), request.clone());
            async move { client.list_drains(request).await }
        });
        let page = page.await?;
        for status in &page.drains {
            print(status, json, printer)?;
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(());
        }
    }
}

fn print(status: &DrainStatus, json: bool, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if json {
        return printer.message(status);
    }
    let target = match status.target.as_ref().and_then(|target| target.target.as_ref()) {
        Some(Target::Bot(bot)) => format!("bot {bot}"),
        Some(Target::Pool(pool)) => format!("pool {pool}"),
        Some(Target::Node(node)) => format!("node {node}"),
        None => "?".to_owned(),
    };
    let state = status.state().as_str_name().trim_start_matches("DRAIN_STATE_").to_ascii_lowercase();
    let deadline = status.deadline.as_ref().map(|deadline| format!(", until {deadline}")).unwrap_or_default();
    let (told, bots, leases) = (status.acknowledged_bots, status.bots, status.running_leases);
    printer.line(format_args!("{target}: {state}, {told} of {bots} bots told, {leases} leases run{deadline}"))
}
