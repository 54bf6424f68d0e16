"""What members exchange: who they are, the plan, reports, control messages, frames and the transport."""
