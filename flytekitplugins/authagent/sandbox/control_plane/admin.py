"""`AdminService`: what `FlyteRemote`, `pyflyte` and eager ask of a flyteadmin."""

from __future__ import annotations

from typing import Any

from flyteidl.admin import (
    common_pb2,
    execution_pb2,
    launch_plan_pb2,
    node_execution_pb2,
    project_pb2,
    task_execution_pb2,
    task_pb2,
    version_pb2,
    workflow_pb2,
)
from flyteidl.core import identifier_pb2

from flytekitplugins.authagent.sandbox.control_plane import flyte_url
from flytekitplugins.authagent.sandbox.control_plane.executions import Executions
from flytekitplugins.authagent.sandbox.control_plane.launches import Launches
from flytekitplugins.authagent.sandbox.control_plane.metrics import span_of
from flytekitplugins.authagent.sandbox.control_plane.offered import Offered
from flytekitplugins.authagent.sandbox.control_plane.projects import Projects
from flytekitplugins.authagent.sandbox.control_plane.registrations import ACTIVE, Registrations
from flytekitplugins.authagent.sandbox.control_plane.validation.fields import check_identifier
from flytekitplugins.authagent.sandbox.refusal import not_found


class Admin(Offered):
    """Each method is one call; what it means is in the module that it passes the request to."""

    def __init__(
        self, projects: Projects, registrations: Registrations, launches: Launches, executions: Executions
    ) -> None:
        self._projects = projects
        self._registrations = registrations
        self._launches = launches
        self._executions = executions

    # tasks, workflows, launch plans

    def CreateTask(self, request: Any, _context: Any) -> task_pb2.TaskCreateResponse:
        self._registrations.create_task(request)
        return task_pb2.TaskCreateResponse()

    def GetTask(self, request: Any, _context: Any) -> task_pb2.Task:
        return self._registrations.tasks.get(request.id)

    def ListTasks(self, request: Any, _context: Any) -> task_pb2.TaskList:
        tasks, token = self._registrations.tasks.page(request)
        return task_pb2.TaskList(tasks=tasks, token=token)

    def ListTaskIds(self, request: Any, _context: Any) -> common_pb2.NamedEntityIdentifierList:
        return self._registrations.tasks.ids(request)

    def CreateWorkflow(self, request: Any, _context: Any) -> workflow_pb2.WorkflowCreateResponse:
        self._registrations.create_workflow(request)
        return workflow_pb2.WorkflowCreateResponse()

    def GetWorkflow(self, request: Any, _context: Any) -> workflow_pb2.Workflow:
        check_identifier(request, identifier_pb2.WORKFLOW)
        return self._registrations.workflows.get(request.id)

    def ListWorkflows(self, request: Any, _context: Any) -> workflow_pb2.WorkflowList:
        workflows, token = self._registrations.workflows.page(request)
        return workflow_pb2.WorkflowList(workflows=workflows, token=token)

    def ListWorkflowIds(self, request: Any, _context: Any) -> common_pb2.NamedEntityIdentifierList:
        return self._registrations.workflows.ids(request)

    def CreateLaunchPlan(self, request: Any, _context: Any) -> launch_plan_pb2.LaunchPlanCreateResponse:
        self._registrations.create_launch_plan(request)
        return launch_plan_pb2.LaunchPlanCreateResponse()

    def GetLaunchPlan(self, request: Any, _context: Any) -> launch_plan_pb2.LaunchPlan:
        return self._registrations.launch_plans.get(request.id)

    def GetActiveLaunchPlan(self, request: Any, _context: Any) -> launch_plan_pb2.LaunchPlan:
        return self._registrations.active_launch_plan(request.id)

    def UpdateLaunchPlan(self, request: Any, _context: Any) -> launch_plan_pb2.LaunchPlanUpdateResponse:
        self._registrations.set_launch_plan_state(request)
        return launch_plan_pb2.LaunchPlanUpdateResponse()

    def ListLaunchPlans(self, request: Any, _context: Any) -> launch_plan_pb2.LaunchPlanList:
        plans, token = self._registrations.launch_plans.page(request)
        return launch_plan_pb2.LaunchPlanList(launch_plans=plans, token=token)

    def ListActiveLaunchPlans(self, request: Any, _context: Any) -> launch_plan_pb2.LaunchPlanList:
        wanted = common_pb2.ResourceListRequest(
            id=common_pb2.NamedEntityIdentifier(project=request.project, domain=request.domain),
            limit=request.limit,
            token=request.token,
            filters=f"eq(state,{ACTIVE})",
            sort_by=request.sort_by,
        )
        return self.ListLaunchPlans(wanted, _context)

    def ListLaunchPlanIds(self, request: Any, _context: Any) -> common_pb2.NamedEntityIdentifierList:
        return self._registrations.launch_plans.ids(request)

    # executions

    def CreateExecution(self, request: Any, _context: Any) -> execution_pb2.ExecutionCreateResponse:
        return execution_pb2.ExecutionCreateResponse(id=self._launches.create(request).id)

    def GetExecution(self, request: Any, _context: Any) -> execution_pb2.Execution:
        return self._executions.get(request.id).message

    def GetExecutionData(self, request: Any, _context: Any) -> execution_pb2.WorkflowExecutionGetDataResponse:
        record = self._executions.get(request.id)
        return execution_pb2.WorkflowExecutionGetDataResponse(full_inputs=record.inputs, full_outputs=record.outputs)

    def ListExecutions(self, request: Any, _context: Any) -> execution_pb2.ExecutionList:
        records, token = self._executions.page(request)
        return execution_pb2.ExecutionList(executions=[record.message for record in records], token=token)

    def TerminateExecution(self, request: Any, _context: Any) -> execution_pb2.ExecutionTerminateResponse:
        self._executions.terminate(request)
        return execution_pb2.ExecutionTerminateResponse()

    def RelaunchExecution(self, request: Any, _context: Any) -> execution_pb2.ExecutionCreateResponse:
        record = self._launches.again(request, execution_pb2.ExecutionMetadata.RELAUNCH)
        return execution_pb2.ExecutionCreateResponse(id=record.id)

    def RecoverExecution(self, request: Any, _context: Any) -> execution_pb2.ExecutionCreateResponse:
        record = self._launches.again(request, execution_pb2.ExecutionMetadata.RECOVERED)
        return execution_pb2.ExecutionCreateResponse(id=record.id)

    def UpdateExecution(self, request: Any, _context: Any) -> execution_pb2.ExecutionUpdateResponse:
        self._executions.update(request)
        return execution_pb2.ExecutionUpdateResponse()

    def GetExecutionMetrics(self, request: Any, _context: Any) -> execution_pb2.WorkflowExecutionGetMetricsResponse:
        span = span_of(self._executions.get(request.id), request.depth)
        return execution_pb2.WorkflowExecutionGetMetricsResponse(span=span)

    # nodes and tasks of executions

    def GetNodeExecution(self, request: Any, _context: Any) -> node_execution_pb2.NodeExecution:
        return self._executions.node(request.id).message

    def ListNodeExecutions(self, request: Any, _context: Any) -> node_execution_pb2.NodeExecutionList:
        nodes, token = self._executions.nodes(request)
        return node_execution_pb2.NodeExecutionList(node_executions=[n.message for n in nodes], token=token)

    def ListNodeExecutionsForTask(self, request: Any, _context: Any) -> node_execution_pb2.NodeExecutionList:
        nodes, token = self._executions.nodes_of_task(request)
        return node_execution_pb2.NodeExecutionList(node_executions=[n.message for n in nodes], token=token)

    def GetNodeExecutionData(self, request: Any, _context: Any) -> node_execution_pb2.NodeExecutionGetDataResponse:
        node = self._executions.node(request.id)
        answer = node_execution_pb2.NodeExecutionGetDataResponse(
            full_inputs=node.inputs, full_outputs=node.outputs, flyte_urls=flyte_url.of_node(node)
        )
        if node.dynamic is not None:
            answer.dynamic_workflow.id.CopyFrom(node.dynamic.primary.template.id)
            answer.dynamic_workflow.compiled_workflow.CopyFrom(node.dynamic)
        return answer

    def GetDynamicNodeWorkflow(self, request: Any, _context: Any) -> node_execution_pb2.DynamicNodeWorkflowResponse:
        node = self._executions.node(request.id)
        if node.dynamic is None:
            raise not_found("dynamic workflow", node.message.id)
        return node_execution_pb2.DynamicNodeWorkflowResponse(compiled_workflow=node.dynamic)

    def GetTaskExecution(self, request: Any, _context: Any) -> task_execution_pb2.TaskExecution:
        return self._executions.task(request.id).message

    def ListTaskExecutions(self, request: Any, _context: Any) -> task_execution_pb2.TaskExecutionList:
        tasks, token = self._executions.tasks(request)
        return task_execution_pb2.TaskExecutionList(task_executions=[t.message for t in tasks], token=token)

    def GetTaskExecutionData(self, request: Any, _context: Any) -> task_execution_pb2.TaskExecutionGetDataResponse:
        task = self._executions.task(request.id)
        node = self._executions.node(request.id.node_execution_id)
        return task_execution_pb2.TaskExecutionGetDataResponse(
            full_inputs=task.inputs,
            full_outputs=task.outputs,
            flyte_urls=flyte_url.of_node(node, request.id.retry_attempt),
        )

    # projects

    def RegisterProject(self, request: Any, _context: Any) -> project_pb2.ProjectRegisterResponse:
        self._projects.register(request)
        return project_pb2.ProjectRegisterResponse()

    def UpdateProject(self, request: Any, _context: Any) -> project_pb2.ProjectUpdateResponse:
        self._projects.update(request)
        return project_pb2.ProjectUpdateResponse()

    def GetProject(self, request: Any, _context: Any) -> project_pb2.Project:
        return self._projects.get(request.id)

    def ListProjects(self, request: Any, _context: Any) -> project_pb2.Projects:
        projects, token = self._projects.page(request)
        return project_pb2.Projects(projects=projects, token=token)

    def GetDomains(self, _request: Any, _context: Any) -> project_pb2.GetDomainsResponse:
        return project_pb2.GetDomainsResponse(domains=self._projects.domains())

    def GetVersion(self, _request: Any, _context: Any) -> version_pb2.GetVersionResponse:
        version = version_pb2.Version(Version="v1.16.8", Build="authagent sandbox")
        return version_pb2.GetVersionResponse(control_plane_version=version)
