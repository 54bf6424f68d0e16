"""Protobuf field numbers of apimachinery's types and the API groups other than core; ``protobuf`` explains the notation."""

TABLE = """
apps.v1.ControllerRevision metadata data revision
apps.v1.DaemonSet metadata spec status
apps.v1.DaemonSetCondition type status lastTransitionTime reason message
apps.v1.DaemonSetSpec selector template updateStrategy minReadySeconds 6:revisionHistoryLimit
apps.v1.DaemonSetStatus currentNumberScheduled numberMisscheduled desiredNumberScheduled numberReady
  observedGeneration updatedNumberScheduled numberAvailable numberUnavailable collisionCount conditions
apps.v1.DaemonSetUpdateStrategy type rollingUpdate
apps.v1.Deployment metadata spec status
apps.v1.DeploymentCondition type status 4:reason message lastUpdateTime lastTransitionTime
apps.v1.DeploymentSpec replicas selector template strategy minReadySeconds revisionHistoryLimit paused
  9:progressDeadlineSeconds
apps.v1.DeploymentStatus observedGeneration replicas updatedReplicas availableReplicas unavailableReplicas conditions
  readyReplicas collisionCount terminatingReplicas
apps.v1.DeploymentStrategy type rollingUpdate
apps.v1.ReplicaSet metadata spec status
apps.v1.ReplicaSetCondition type status lastTransitionTime reason message
apps.v1.ReplicaSetSpec replicas selector template minReadySeconds
apps.v1.ReplicaSetStatus replicas fullyLabeledReplicas observedGeneration readyReplicas availableReplicas conditions
  terminatingReplicas
apps.v1.RollingUpdateDaemonSet maxUnavailable maxSurge
apps.v1.RollingUpdateDeployment maxUnavailable maxSurge
apps.v1.RollingUpdateStatefulSetStrategy partition maxUnavailable
apps.v1.StatefulSet metadata spec status
apps.v1.StatefulSetCondition type status lastTransitionTime reason message
apps.v1.StatefulSetOrdinals start
apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy whenDeleted whenScaled
apps.v1.StatefulSetSpec replicas selector template volumeClaimTemplates serviceName podManagementPolicy updateStrategy
  revisionHistoryLimit minReadySeconds persistentVolumeClaimRetentionPolicy ordinals
apps.v1.StatefulSetStatus observedGeneration replicas readyReplicas currentReplicas updatedReplicas currentRevision
  updateRevision 9:collisionCount conditions availableReplicas
apps.v1.StatefulSetUpdateStrategy type rollingUpdate
authentication.v1.BoundObjectReference kind apiVersion name uid
authentication.v1.SelfSubjectReview metadata status
authentication.v1.SelfSubjectReviewStatus userInfo
authentication.v1.TokenRequest metadata spec status
authentication.v1.TokenRequestSpec audiences 3:boundObjectRef expirationSeconds
authentication.v1.TokenRequestStatus token expirationTimestamp
authentication.v1.TokenReview metadata spec status
authentication.v1.TokenReviewSpec token audiences
authentication.v1.TokenReviewStatus authenticated user error audiences
authentication.v1.UserInfo username uid groups extra
authorization.v1.FieldSelectorAttributes rawSelector requirements
authorization.v1.LabelSelectorAttributes rawSelector requirements
authorization.v1.LocalSubjectAccessReview metadata spec status
authorization.v1.NonResourceAttributes path verb
authorization.v1.NonResourceRule verbs nonResourceURLs
authorization.v1.ResourceAttributes namespace verb group version resource subresource name fieldSelector labelSelector
authorization.v1.ResourceRule verbs apiGroups resources resourceNames
authorization.v1.SelfSubjectAccessReview metadata spec status
authorization.v1.SelfSubjectAccessReviewSpec resourceAttributes nonResourceAttributes
authorization.v1.SelfSubjectRulesReview metadata spec status
authorization.v1.SelfSubjectRulesReviewSpec namespace
authorization.v1.SubjectAccessReview metadata spec status
authorization.v1.SubjectAccessReviewSpec resourceAttributes nonResourceAttributes user groups extra uid
authorization.v1.SubjectAccessReviewStatus allowed reason evaluationError denied
authorization.v1.SubjectRulesReviewStatus resourceRules nonResourceRules incomplete evaluationError
autoscaling.v1.CrossVersionObjectReference kind name apiVersion
autoscaling.v1.HorizontalPodAutoscaler metadata spec status
autoscaling.v1.HorizontalPodAutoscalerSpec scaleTargetRef minReplicas maxReplicas targetCPUUtilizationPercentage
autoscaling.v1.HorizontalPodAutoscalerStatus observedGeneration lastScaleTime currentReplicas desiredReplicas
  currentCPUUtilizationPercentage
autoscaling.v1.Scale metadata spec status
autoscaling.v1.ScaleSpec replicas
autoscaling.v1.ScaleStatus replicas selector
autoscaling.v2.ContainerResourceMetricSource name target container
autoscaling.v2.ContainerResourceMetricStatus name current container
autoscaling.v2.CrossVersionObjectReference kind name apiVersion
autoscaling.v2.ExternalMetricSource metric target
autoscaling.v2.ExternalMetricStatus metric current
autoscaling.v2.HPAScalingPolicy type value periodSeconds
autoscaling.v2.HPAScalingRules selectPolicy policies stabilizationWindowSeconds tolerance
autoscaling.v2.HorizontalPodAutoscaler metadata spec status
autoscaling.v2.HorizontalPodAutoscalerBehavior scaleUp scaleDown
autoscaling.v2.HorizontalPodAutoscalerCondition type status lastTransitionTime reason message
autoscaling.v2.HorizontalPodAutoscalerSpec scaleTargetRef minReplicas maxReplicas metrics behavior
autoscaling.v2.HorizontalPodAutoscalerStatus observedGeneration lastScaleTime currentReplicas desiredReplicas
  currentMetrics conditions
autoscaling.v2.MetricIdentifier name selector
autoscaling.v2.MetricSpec type object pods resource external 7:containerResource
autoscaling.v2.MetricStatus type object pods resource external 7:containerResource
autoscaling.v2.MetricTarget type value averageValue averageUtilization
autoscaling.v2.MetricValueStatus value averageValue averageUtilization
autoscaling.v2.ObjectMetricSource describedObject target metric
autoscaling.v2.ObjectMetricStatus metric current describedObject
autoscaling.v2.PodsMetricSource metric target
autoscaling.v2.PodsMetricStatus metric current
autoscaling.v2.ResourceMetricSource name target
autoscaling.v2.ResourceMetricStatus name current
batch.v1.CronJob metadata spec status
batch.v1.CronJobSpec schedule startingDeadlineSeconds concurrencyPolicy suspend jobTemplate successfulJobsHistoryLimit
  failedJobsHistoryLimit timeZone
batch.v1.CronJobStatus active 4:lastScheduleTime lastSuccessfulTime
batch.v1.Job metadata spec status
batch.v1.JobCondition type status lastProbeTime lastTransitionTime reason message
batch.v1.JobSpec parallelism completions activeDeadlineSeconds selector manualSelector template backoffLimit
  ttlSecondsAfterFinished completionMode suspend podFailurePolicy backoffLimitPerIndex maxFailedIndexes
  podReplacementPolicy managedBy successPolicy
batch.v1.JobStatus conditions startTime completionTime active succeeded failed completedIndexes
  uncountedTerminatedPods ready failedIndexes terminating
batch.v1.JobTemplateSpec metadata spec
batch.v1.PodFailurePolicy rules
batch.v1.PodFailurePolicyOnExitCodesRequirement containerName operator values
batch.v1.PodFailurePolicyOnPodConditionsPattern type status
batch.v1.PodFailurePolicyRule action onExitCodes onPodConditions
batch.v1.SuccessPolicy rules
batch.v1.SuccessPolicyRule succeededIndexes succeededCount
batch.v1.UncountedTerminatedPods succeeded failed
coordination.v1.Lease metadata spec
coordination.v1.LeaseSpec holderIdentity leaseDurationSeconds acquireTime renewTime leaseTransitions strategy
  preferredHolder
discovery.v1.Endpoint addresses conditions hostname targetRef deprecatedTopology nodeName zone hints
discovery.v1.EndpointConditions ready serving terminating
discovery.v1.EndpointHints forZones forNodes
discovery.v1.EndpointPort name protocol port appProtocol
discovery.v1.EndpointSlice metadata endpoints ports addressType
discovery.v1.ForNode name
discovery.v1.ForZone name
events.v1.Event metadata eventTime series reportingController reportingInstance action reason regarding related note
  type deprecatedSource deprecatedFirstTimestamp deprecatedLastTimestamp deprecatedCount
events.v1.EventSeries count lastObservedTime
networking.v1.HTTPIngressPath path backend pathType
networking.v1.HTTPIngressRuleValue paths
networking.v1.IPBlock cidr except
networking.v1.Ingress metadata spec status
networking.v1.IngressBackend 3:resource service
networking.v1.IngressClass metadata spec
networking.v1.IngressClassParametersReference apiGroup kind name scope namespace
networking.v1.IngressClassSpec controller parameters
networking.v1.IngressLoadBalancerIngress ip hostname 4:ports
networking.v1.IngressLoadBalancerStatus ingress
networking.v1.IngressPortStatus port protocol error
networking.v1.IngressRule host @networking.v1.IngressRuleValue
networking.v1.IngressRuleValue http
networking.v1.IngressServiceBackend name port
networking.v1.IngressSpec defaultBackend tls rules ingressClassName
networking.v1.IngressStatus loadBalancer
networking.v1.IngressTLS hosts secretName
networking.v1.NetworkPolicy metadata spec
networking.v1.NetworkPolicyEgressRule ports to
networking.v1.NetworkPolicyIngressRule ports from
networking.v1.NetworkPolicyPeer podSelector namespaceSelector ipBlock
networking.v1.NetworkPolicyPort protocol port endPort
networking.v1.NetworkPolicySpec podSelector ingress egress policyTypes
networking.v1.ServiceBackendPort name number
policy.v1.Eviction metadata deleteOptions
policy.v1.PodDisruptionBudget metadata spec status
policy.v1.PodDisruptionBudgetSpec minAvailable selector maxUnavailable unhealthyPodEvictionPolicy
policy.v1.PodDisruptionBudgetStatus observedGeneration disruptedPods disruptionsAllowed currentHealthy desiredHealthy
  expectedPods conditions
rbac.v1.AggregationRule clusterRoleSelectors
rbac.v1.ClusterRole metadata rules aggregationRule
rbac.v1.ClusterRoleBinding metadata subjects roleRef
rbac.v1.PolicyRule verbs apiGroups resources resourceNames nonResourceURLs
rbac.v1.Role metadata rules
rbac.v1.RoleBinding metadata subjects roleRef
rbac.v1.RoleRef apiGroup kind name
rbac.v1.Subject kind apiGroup name namespace
scheduling.v1.PriorityClass metadata value globalDefault description preemptionPolicy
storage.v1.StorageClass metadata provisioner parameters reclaimPolicy mountOptions allowVolumeExpansion
  volumeBindingMode allowedTopologies
meta.v1.Condition type status observedGeneration lastTransitionTime reason message
meta.v1.DeleteOptions gracePeriodSeconds preconditions orphanDependents propagationPolicy dryRun
  ignoreStoreReadErrorWithClusterBreakingPotential
meta.v1.FieldSelectorRequirement key operator values
meta.v1.LabelSelector matchLabels matchExpressions
meta.v1.LabelSelectorRequirement key operator values
meta.v1.ManagedFieldsEntry manager operation apiVersion time 6:fieldsType fieldsV1 subresource
meta.v1.ObjectMeta name generateName namespace selfLink uid resourceVersion generation creationTimestamp
  deletionTimestamp deletionGracePeriodSeconds labels annotations ownerReferences finalizers 17:managedFields
meta.v1.OwnerReference kind 3:name uid apiVersion controller blockOwnerDeletion
meta.v1.Preconditions uid resourceVersion
"""
