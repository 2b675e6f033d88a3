"""One file per federated prompt method; found by being here, see `secfpp.algorithms.base.methods`."""
