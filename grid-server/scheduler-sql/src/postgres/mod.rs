//! stub
/// stub
#[derive(Debug)]
pub struct PostgresQueue;
