//! `gate`.

use wasmtime::component::Resource;

use super::stagewright::gate::gate::{Host, HostApproval, HostField};
use super::{Answer, size_of};
use crate::attempt::Attempt;
use crate::capability::gate::{ApprovalBuilder, FieldBuilder};
use crate::guest::Suspension;

impl HostField for Attempt {
    async fn new(&mut self, name: String, kind: String) -> wasmtime::Result<Resource<FieldBuilder>> {
        let size = name.len() + kind.len();
        let field = FieldBuilder { name, kind, description: String::new(), required: false, choices: None };
        self.handles.push_sized(field, size)
    }

    async fn description(&mut self, field: Resource<FieldBuilder>, text: String) -> wasmtime::Result<()> {
        let size = text.len();
        self.handles.grow(&field, size)?.description = text;
        Ok(())
    }

    async fn required(&mut self, field: Resource<FieldBuilder>) -> wasmtime::Result<()> {
        self.handles.get_mut(&field)?.required = true;
        Ok(())
    }

    async fn choices(&mut self, field: Resource<FieldBuilder>, choices: Vec<String>) -> wasmtime::Result<()> {
        let size = size_of(&choices);
        self.handles.grow(&field, size)?.choices = Some(choices);
        Ok(())
    }

    async fn drop(&mut self, field: Resource<FieldBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(field)?;
        Ok(())
    }
}

impl HostApproval for Attempt {
    async fn new(&mut self, message: String) -> wasmtime::Result<Resource<ApprovalBuilder>> {
        let message = self.log.masker().text(&message);
        let size = message.len();
        self.handles.push_sized(ApprovalBuilder::new(message), size)
    }

    async fn approver(&mut self, approval: Resource<ApprovalBuilder>, who: String) -> wasmtime::Result<()> {
        self.handles.grow(&approval, who.len())?.approvers.push(who);
        Ok(())
    }

    async fn approvals(&mut self, approval: Resource<ApprovalBuilder>, count: u32) -> wasmtime::Result<()> {
        self.handles.get_mut(&approval)?.approvals = count;
        Ok(())
    }

    async fn field(
        &mut self,
        approval: Resource<ApprovalBuilder>,
        field: Resource<FieldBuilder>,
    ) -> wasmtime::Result<()> {
        let field = self.handles.delete(field)?;
        self.handles.grow(&approval, field.size())?.fields.push(field);
        Ok(())
    }

    async fn expires_ms(&mut self, approval: Resource<ApprovalBuilder>, duration: u64) -> wasmtime::Result<()> {
        self.handles.get_mut(&approval)?.expires_ms = Some(duration);
        Ok(())
    }

    async fn open(&mut self, approval: Resource<ApprovalBuilder>) -> Answer<Resource<Suspension>> {
        let approval = self.handles.get(&approval)?.clone();
        self.handles.keep_always(approval.size())?;
        let opened = self.gates.open(approval, self.context.request());
        self.answer_with_handle(opened.map(|gate| Suspension::Gate(Box::new(gate))))
    }

    async fn drop(&mut self, approval: Resource<ApprovalBuilder>) -> wasmtime::Result<()> {
        self.handles.delete(approval)?;
        Ok(())
    }
}

impl Host for Attempt {}
