//! BuildGrid's Quota service.

use grid_proto::buildgrid::quota_client::QuotaClient;
use grid_proto::buildgrid::{
    DeleteInstanceQuotaRequest, GetAllInstanceQuotaRequest, GetInstanceQuotaRequest, InstanceQuota,
    PutInstanceQuotaRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::grid::{Grid, MAIN, TIGHT, refused};
use crate::queue::{COHORT, OTHER_COHORT};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "BuildGrid Quota";

fn client(grid: &Grid) -> QuotaClient<Channel> {
    QuotaClient::new(grid.channel.clone())
}

async fn put(grid: &Grid, instance: &str, cohort: &str, min: i64, max: i64) -> Result<(), Status> {
    let request = PutInstanceQuotaRequest {
        instance_name: instance.into(),
        bot_cohort: cohort.into(),
        min_quota: min,
        max_quota: max,
    };
    client(grid).put_instance_quota(request).await.map(|_| ())
}

async fn get(grid: &Grid, instance: &str, cohort: &str) -> Result<InstanceQuota, Status> {
    let request = GetInstanceQuotaRequest { instance_name: instance.into(), bot_cohort: cohort.into() };
    client(grid).get_instance_quota(request).await.map(|answer| answer.into_inner().instance_quota.unwrap())
}

async fn list(grid: &Grid, instance: &str) -> Result<Vec<InstanceQuota>, Status> {
    let request = GetAllInstanceQuotaRequest { instance_name: instance.into() };
    client(grid).get_all_instance_quota(request).await.map(|answer| answer.into_inner().instance_quotas)
}

async fn delete(grid: &Grid, instance: &str, cohort: &str) -> Result<(), Status> {
    let request = DeleteInstanceQuotaRequest { instance_name: instance.into(), bot_cohort: cohort.into() };
    client(grid).delete_instance_quota(request).await.map(|_| ())
}

pub(crate) fn rules() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "a quota is set, replaced, listed and removed", |grid| async move {
            put(&grid, MAIN, COHORT, 1, 5).await.unwrap();
            put(&grid, MAIN, COHORT, 2, 6).await.unwrap();
            put(&grid, MAIN, OTHER_COHORT, 0, 3).await.unwrap();
            let told = get(&grid.other_replica(), MAIN, COHORT).await.unwrap();
            assert_eq!((told.min_quota, told.max_quota, told.current_usage), (2, 6, 0));
            assert_eq!((told.instance_name.as_str(), told.bot_cohort.as_str()), (MAIN, COHORT));
            let all = list(&grid, MAIN).await.unwrap();
            let cohorts: Vec<_> = all.iter().map(|quota| quota.bot_cohort.as_str()).collect();
            assert_eq!(cohorts, [COHORT, OTHER_COHORT]);
            assert_eq!(list(&grid, TIGHT).await.unwrap(), [], "they are of one instance alone");
            for cohort in [COHORT, OTHER_COHORT] {
                delete(&grid, MAIN, cohort).await.unwrap();
                refused(get(&grid, MAIN, cohort).await, Code::NotFound);
            }
        }),
        refuses(SOURCE, "a quota that was not set is not found", |grid| async move {
            refused(get(&grid, TIGHT, OTHER_COHORT).await, Code::NotFound);
            refused(delete(&grid, TIGHT, OTHER_COHORT).await, Code::NotFound);
        }),
        refuses(SOURCE, "quotas that can't be are refused by the field", |grid| async move {
            for (min, max, field) in [(2, 1, "min_quota"), (-1, 1, "min_quota"), (0, 1 << 32, "max_quota")] {
                let status = refused(put(&grid, TIGHT, COHORT, min, max).await, Code::InvalidArgument);
                assert!(status.message().contains(field), "{status}");
            }
            assert_eq!(list(&grid, TIGHT).await.unwrap(), []);
        }),
        refuses(
            SOURCE,
            "a cohort that is not configured is refused, with those that are",
            |grid| async move {
                let status = refused(put(&grid, MAIN, "unheard-of", 0, 1).await, Code::InvalidArgument);
                assert!(
                    status.message().contains("unheard-of") && status.message().contains(COHORT),
                    "{status}"
                );
            },
        ),
        refuses(SOURCE, "an instance that does not exist is refused", |grid| async move {
            refused(put(&grid, "nowhere", COHORT, 0, 1).await, Code::InvalidArgument);
            refused(get(&grid, "nowhere", COHORT).await, Code::InvalidArgument);
            refused(list(&grid, "nowhere").await, Code::InvalidArgument);
            refused(delete(&grid, "nowhere", COHORT).await, Code::InvalidArgument);
        }),
    ]
}
