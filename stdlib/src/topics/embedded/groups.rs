//! Members of groups of the embedded broker behind the seam.

use std::sync::Arc;

use async_trait::async_trait;
use flow_agent::Fault;
use flow_broker::{Assignor, Broker, Joining, LocalMember, MemberError};

use crate::topics::cluster::{Assign, Identity, Join, Member};

pub async fn join(broker: &Arc<Broker>, join: Join) -> Result<Box<dyn Member>, Fault> {
    let joining = Joining {
        group: join.group.clone(),
        topic: join.topic,
        member: join.member,
        assignor: match join.assign {
            Assign::Range => Assignor::Range,
            // The coordinator's `uniform` moves as little as it can, and shares evenly.
            Assign::RoundRobin | Assign::Sticky => Assignor::Uniform,
        },
        rebalance_ms: i32::try_from(join.session_ms).unwrap_or(i32::MAX),
    };
    let member = LocalMember::join(broker, joining).await.map_err(fault)?;
    Ok(Box::new(Inside { member, group: join.group }))
}

fn fault(error: MemberError) -> Fault {
    Fault::new(error.to_string())
}

struct Inside {
    member: LocalMember,
    group: String,
}

#[async_trait]
impl Member for Inside {
    async fn assigned(&mut self) -> Result<Vec<i32>, Fault> {
        self.member.assigned().await.map_err(fault)
    }

    async fn release(&mut self) -> Result<(), Fault> {
        self.member.release().await.map_err(fault)
    }

    async fn positions(&mut self, partitions: &[i32]) -> Result<Vec<Option<i64>>, Fault> {
        self.member.positions(partitions).await.map_err(fault)
    }

    async fn commit(&mut self, positions: &[(i32, i64)]) -> Result<(), Fault> {
        self.member.commit(positions).await.map_err(fault)
    }

    fn identity(&self) -> Identity {
        let (member, generation) = self.member.identity();
        Identity { group: self.group.clone(), member: member.to_owned(), generation }
    }

    async fn leave(self: Box<Self>) {
        self.member.leave().await;
    }
}
