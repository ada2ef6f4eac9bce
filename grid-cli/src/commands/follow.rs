//! Follows an operation of the Execution service to its end, over connections that break.

use grid_proto::longrunning::Operation;
use grid_proto::reapi::{ExecuteRequest, WaitExecutionRequest};
use tonic::{Status, Streaming};

use crate::exit::Failure;
use crate::remote::Remote;
use crate::remote::retry::Tries;

/// How the stream of updates begins.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    /// By asking for an execution.
    Execute(ExecuteRequest),
    /// With an operation that exists.
    Wait(String),
}

/// One operation that is followed.
pub(crate) struct Follow<'a> {
    remote: &'a Remote,
    start: Start,
    updates: Option<Streaming<Operation>>,
    tries: Tries,
    last: Option<Operation>,
}

impl<'a> Follow<'a> {
    /// Nothing is asked of the server before the first [`Self::next`].
    pub(crate) fn new(remote: &'a Remote, start: Start) -> Self {
        let tries = Tries::new(remote.retry());
        Self { remote, start, updates: None, tries, last: None }
    }

    /// The next update; `None` after the one that is done.
    pub(crate) async fn next(&mut self) -> Result<Option<Operation>, Failure> {
        if self.last.as_ref().is_some_and(|operation| operation.done) {
            return Ok(None);
        }
        loop {
            match self.receive().await {
                Ok(operation) => {
                    self.tries.reset();
                    // Once the operation has a name, a broken stream is taken up by it.
                    self.start = Start::Wait(operation.name.clone());
                    self.last = Some(operation.clone());
                    return Ok(Some(operation));
                }
                Err(status) => {
                    self.updates = None;
                    self.tries.again(status).await.map_err(|status| Failure::rpc(self.what(), status))?;
                }
            }
        }
    }

    /// The operation's name, once it is known.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.start {
            Start::Wait(name) => Some(name),
            Start::Execute(_) => None,
        }
    }

    /// The last update.
    pub(crate) fn finish(self) -> Result<Operation, Failure> {
        self.last.ok_or_else(|| Failure::Protocol("an operation ended before its first update".to_owned()))
    }

    async fn receive(&mut self) -> Result<Operation, Status> {
        let updates = match &mut self.updates {
            Some(updates) => updates,
            None => self.updates.insert(open(self.remote, self.start.clone()).await?),
        };
        let update = updates.message().await?;
        // A proxy may end a stream as if it were complete; the operation is not.
        update.ok_or_else(|| Status::unavailable("the stream of updates ended before the operation"))
    }

    fn what(&self) -> String {
        match &self.start {
            Start::Execute(_) => "execute".to_owned(),
            Start::Wait(name) => format!("wait for operation {name}"),
        }
    }
}

async fn open(remote: &Remote, start: Start) -> Result<Streaming<Operation>, Status> {
    let answer = match start {
        Start::Execute(request) => remote.execution().execute(request).await?,
        Start::Wait(name) => remote.execution().wait_execution(WaitExecutionRequest { name }).await?,
    };
    Ok(answer.into_inner())
}
