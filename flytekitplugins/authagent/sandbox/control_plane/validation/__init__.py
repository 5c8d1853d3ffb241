"""What flyteadmin 1.16.8 refuses: one module for each kind of resource. Each check raises `Refusal`."""
