//! Execution and Operations.

use futures::stream::{self, BoxStream};
use grid_proto::any;
use grid_proto::longrunning::operations_server::Operations;
use grid_proto::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    ListOperationsResponse, Operation, WaitOperationRequest, operation,
};
use grid_proto::reapi::execution_server::Execution;
use grid_proto::reapi::{ExecuteOperationMetadata, ExecuteRequest, WaitExecutionRequest};
use tonic::{Request, Response, Status};

use super::Fake;

type Updates = BoxStream<'static, Result<Operation, Status>>;

/// What every executed action is called.
const NAME: &str = "main/op-1";

#[tonic::async_trait]
impl Execution for Fake {
    type ExecuteStream = Updates;
    type WaitExecutionStream = Updates;

    /// Breaks off after the first update, so that clients have to come back by the operation's name.
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<Updates>, Status> {
        let request = request.into_inner();
        let metadata = ExecuteOperationMetadata {
            stage: 2,
            action_digest: request.action_digest.clone(),
            ..Default::default()
        };
        self.state().executed.push(request);
        let queued =
            Operation { name: NAME.into(), metadata: Some(any::pack(&metadata)), ..Default::default() };
        let broken = Status::unavailable("the replica goes away");
        Ok(Response::new(Box::pin(stream::iter([Ok(queued), Err(broken)]))))
    }

    async fn wait_execution(
        &self,
        request: Request<WaitExecutionRequest>,
    ) -> Result<Response<Updates>, Status> {
        let name = request.into_inner().name;
        if name != NAME {
            return Err(Status::not_found("no such operation"));
        }
        let response = any::pack(&self.state().outcome);
        let result = Some(operation::Result::Response(response));
        let done = Operation { name, done: true, result, ..Default::default() };
        Ok(Response::new(Box::pin(stream::iter([Ok(done)]))))
    }
}

#[tonic::async_trait]
impl Operations for Fake {
    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let request = request.into_inner();
        assert_eq!((request.name.as_str(), request.filter.as_str()), ("main", "stage=QUEUED"));
        let (number, next_page_token) = if request.page_token.is_empty() { (1, "two") } else { (2, "") };
        let operations = vec![Operation { name: format!("main/op-{number}"), ..Default::default() }];
        let next_page_token = next_page_token.to_owned();
        Ok(Response::new(ListOperationsResponse { operations, next_page_token, ..Default::default() }))
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let found = self.state().operations.get(&request.into_inner().name).cloned();
        found.map(Response::new).ok_or_else(|| Status::not_found("no such operation"))
    }

    async fn delete_operation(&self, _: Request<DeleteOperationRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        self.state().cancelled.push(request.into_inner().name);
        Ok(Response::new(()))
    }

    async fn wait_operation(&self, _: Request<WaitOperationRequest>) -> Result<Response<Operation>, Status> {
        Err(Status::unimplemented(""))
    }
}
