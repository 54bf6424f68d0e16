"""Which fields Go's JSON encoder writes when they are zero: clients depend on it, and the JSON schemas do not say it.

A posted ``hostNetwork: false`` comes back without the field, ``automountServiceAccountToken: false`` with it, and
``resources: {}`` appears without having been posted. The rule follows from the Go types: a field without ``omitempty``
and a struct by value are always written (``P``), a pointer keeps its zero (``p``), all others omit it (``o``).

A field's class is, in this order: its type's line in ``_TABLE``; ``P`` where the schema says required; the line ``*``;
and by its schema: ``o`` for strings, lists and maps, ``p`` for objects, numbers and booleans.
"""

_TABLE = """
* P:lastProbeTime,lastTransitionTime,metadata,spec,status
  o:availableReplicas,count,minReadySeconds,observedGeneration,readOnly,readyReplicas
  p:appProtocol,failurePolicy,matchPolicy,nodeName
admissionregistration.MutatingWebhook p:reinvocationPolicy
admissionregistration.NamedRuleWithOperations p:scope
admissionregistration.ParamRef p:parameterNotFoundAction
admissionregistration.RuleWithOperations p:scope
admissionregistration.ServiceReference p:path
admissionregistration.ValidatingAdmissionPolicyBindingSpec o:policyName,validationActions
admissionregistration.Validation p:reason
admissionregistration.WebhookClientConfig p:url
apiextensions.CustomResourceColumnDefinition o:priority
apiextensions.CustomResourceDefinitionSpec o:preserveUnknownFields
apiextensions.CustomResourceDefinitionStatus P:acceptedNames,conditions,storedVersions
apiextensions.CustomResourceDefinitionVersion o:deprecated p:deprecationWarning
apiextensions.CustomResourceSubresourceScale p:labelSelectorPath
apiextensions.CustomResourceSubresources p:status
apiextensions.JSONSchemaProps
  o:exclusiveMaximum,exclusiveMinimum,nullable,uniqueItems,x-kubernetes-embedded-resource,x-kubernetes-int-or-string
  p:$ref,x-kubernetes-list-type,x-kubernetes-map-type
apiextensions.ServiceReference p:path
apiextensions.ValidationRule p:reason
apiextensions.WebhookClientConfig p:url
apiregistration.APIServiceSpec o:insecureSkipTLSVerify
apps.ControllerRevision P:data
apps.DaemonSetSpec P:updateStrategy
apps.DaemonSetStatus o:numberAvailable,numberUnavailable,updatedNumberScheduled
apps.DeploymentCondition P:lastUpdateTime
apps.DeploymentSpec P:strategy o:paused
apps.DeploymentStatus o:replicas,unavailableReplicas,updatedReplicas
apps.ReplicaSetSpec P:template
apps.ReplicaSetStatus o:fullyLabeledReplicas
apps.StatefulSetOrdinals P:start
apps.StatefulSetSpec P:serviceName,updateStrategy
apps.StatefulSetStatus P:availableReplicas o:currentReplicas,updatedReplicas
authentication.SelfSubjectReviewStatus P:userInfo
authentication.TokenRequestSpec P:audiences,boundObjectRef,expirationSeconds
authentication.TokenRequestStatus P:expirationTimestamp,token
authentication.TokenReviewSpec o:token
authentication.TokenReviewStatus P:user o:authenticated
authorization.SubjectAccessReviewStatus o:denied
autoscaling.HPAScalingRules p:selectPolicy
autoscaling.HorizontalPodAutoscalerStatus P:currentMetrics p:observedGeneration
autoscaling.ScaleSpec o:replicas
batch.CronJobSpec p:timeZone
batch.JobSpec p:completionMode,managedBy,podReplacementPolicy
batch.JobStatus o:active,failed,succeeded p:failedIndexes
batch.PodFailurePolicyOnExitCodesRequirement p:containerName
batch.SuccessPolicyRule p:succeededIndexes
certificates.CertificateSigningRequestCondition P:lastUpdateTime
coordination.LeaseSpec p:holderIdentity,preferredHolder,strategy
core.AWSElasticBlockStoreVolumeSource o:partition
core.AppArmorProfile p:localhostProfile
core.AzureDiskVolumeSource p:cachingMode,fsType,kind,readOnly
core.AzureFilePersistentVolumeSource P:secretNamespace
core.CSIVolumeSource p:fsType,readOnly
core.ClusterTrustBundleProjection p:name,signerName
core.Container P:resources o:stdin,stdinOnce,tty p:restartPolicy
core.ContainerImage P:names o:sizeBytes
core.ContainerPort o:hostPort
core.ContainerRestartRule o:action
core.ContainerRestartRuleOnExitCodes o:operator
core.ContainerStateRunning P:startedAt
core.ContainerStateTerminated P:finishedAt,startedAt o:signal
core.ContainerStatus P:lastState,state p:stopSignal
core.EphemeralContainer P:resources o:stdin,stdinOnce,tty p:restartPolicy
core.Event P:eventTime,firstTimestamp,lastTimestamp,reportingComponent,reportingInstance,source
core.EventSeries P:lastObservedTime
core.GCEPersistentDiskVolumeSource o:partition
core.GRPCAction P:service
core.GlusterfsPersistentVolumeSource p:endpointsNamespace
core.HostPathVolumeSource p:type
core.ISCSIPersistentVolumeSource o:chapAuthDiscovery,chapAuthSession p:initiatorName
core.ISCSIVolumeSource o:chapAuthDiscovery,chapAuthSession p:initiatorName
core.ImageVolumeStatus o:imageRef
core.Lifecycle p:stopSignal
core.LoadBalancerIngress p:ipMode
core.LocalVolumeSource p:fsType
core.NodeCondition P:lastHeartbeatTime
core.NodeDaemonEndpoints P:kubeletEndpoint
core.NodeRuntimeHandler P:name
core.NodeSpec o:unschedulable
core.NodeStatus P:daemonEndpoints,nodeInfo
core.PersistentVolumeClaimSpec P:resources p:storageClassName,volumeAttributesClassName,volumeMode
core.PersistentVolumeClaimStatus p:currentVolumeAttributesClassName
core.PersistentVolumeSpec p:volumeAttributesClassName,volumeMode
core.PodCertificateProjection o:keyType,signerName
core.PodDNSConfigOption p:value
core.PodResourceClaim p:resourceClaimName,resourceClaimTemplateName
core.PodResourceClaimStatus p:resourceClaimName
core.PodSchedulingGroup p:podGroupName
core.PodSecurityContext p:fsGroupChangePolicy,seLinuxChangePolicy,supplementalGroupsPolicy
core.PodSpec o:hostIPC,hostNetwork,hostPID,nodeName p:hostnameOverride,preemptionPolicy,runtimeClassName
core.PodTemplate P:template
core.PortStatus p:error
core.Probe o:failureThreshold,initialDelaySeconds,periodSeconds,successThreshold,timeoutSeconds
core.ProjectedVolumeSource P:sources
core.ReplicationControllerStatus o:fullyLabeledReplicas
core.ResourceFieldSelector P:divisor
core.ResourceHealth p:message
core.ScaleIOPersistentVolumeSource o:sslEnabled
core.ScaleIOVolumeSource o:sslEnabled
core.SeccompProfile p:localhostProfile
core.SecurityContext p:procMount
core.ServicePort P:targetPort o:nodePort
core.ServiceSpec o:healthCheckNodePort,publishNotReadyAddresses
  p:internalTrafficPolicy,ipFamilyPolicy,loadBalancerClass,trafficDistribution
core.ServiceStatus P:loadBalancer
core.TopologySpreadConstraint p:nodeAffinityPolicy,nodeTaintsPolicy
core.TypedLocalObjectReference P:apiGroup
core.TypedObjectReference P:apiGroup p:namespace
core.VolumeMount p:mountPropagation,recursiveReadOnly
core.VolumeMountStatus p:recursiveReadOnly
core.WindowsSecurityContextOptions p:gmsaCredentialSpec,gmsaCredentialSpecName,runAsUserName
discovery.Endpoint P:conditions p:hostname,zone
discovery.EndpointPort p:name,protocol
discovery.EndpointSlice P:endpoints,ports
events.Event P:deprecatedFirstTimestamp,deprecatedLastTimestamp,deprecatedSource,regarding o:deprecatedCount
flowcontrol.FlowSchemaCondition o:status
flowcontrol.FlowSchemaSpec P:matchingPrecedence
flowcontrol.LimitedPriorityLevelConfiguration P:limitResponse p:nominalConcurrencyShares
flowcontrol.PriorityLevelConfigurationCondition o:status
flowcontrol.QueuingConfiguration P:handSize,queueLengthLimit,queues
flowcontrol.ResourcePolicyRule P:namespaces o:clusterScope
meta.DeleteOptions p:propagationPolicy
meta.ObjectMeta o:creationTimestamp,generation
meta.Preconditions p:resourceVersion,uid
networking.IPAddressSpec p:parentRef
networking.IngressClassParametersReference P:scope p:apiGroup,namespace
networking.IngressPortStatus p:error
networking.IngressServiceBackend P:port
networking.IngressSpec p:ingressClassName
networking.IngressStatus P:loadBalancer
networking.NetworkPolicyPort p:protocol
networking.NetworkPolicySpec P:podSelector
networking.ParentReference o:name,resource
networking.ServiceBackendPort o:number
policy.PodDisruptionBudgetSpec p:unhealthyPodEvictionPolicy
policy.PodDisruptionBudgetStatus P:currentHealthy,desiredHealthy,disruptionsAllowed,expectedPods
rbac.ClusterRole P:rules
rbac.Role P:rules
rbac.RoleRef P:apiGroup
resource.AllocatedDeviceStatus P:conditions p:shareID
resource.AllocationResult P:devices
resource.CapacityRequestPolicy P:default
resource.CapacityRequestPolicyRange p:min
resource.CounterSet o:counters
resource.DeviceAttribute p:string,version
resource.DeviceClaim P:requests
resource.DeviceClassSpec p:extendedResourceName
resource.DeviceConstraint p:distinctAttribute,matchAttribute
resource.DeviceCounterConsumption o:counters
resource.DeviceRequestAllocationResult p:shareID
resource.ResourceClaimSpec P:devices
scheduling.PriorityClass P:value o:globalDefault p:preemptionPolicy
storage.CSIDriverSpec p:fsGroupPolicy
storage.CSINodeDriver P:topologyKeys
storage.StorageClass p:reclaimPolicy,volumeBindingMode
storage.VolumeAttachmentSource p:persistentVolumeName
storage.VolumeError P:time
storage.VolumeNodeResources p:count
"""


def _parse() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    every: dict[str, str] = {}
    types: dict[str, dict[str, str]] = {}
    current = every
    for line in _TABLE.strip().splitlines():
        words = line.split()
        if not line.startswith(" "):
            name = words.pop(0)
            current = every if name == "*" else types.setdefault(name, {})
        for word in words:
            letter, _, fields = word.partition(":")
            current.update(dict.fromkeys(fields.split(","), letter))
    return every, types


_EVERYWHERE, _BY_TYPE = _parse()
_NONE: dict[str, str] = {}


def presence(definition: str, field: str, schema_type: str, required: bool) -> str:
    """The class of ``field`` in ``definition`` (``io.k8s.api.core.v1.PodSpec``): "P", "p" or "o"."""
    parts = definition.split(".")
    own = _BY_TYPE.get(f"{parts[-3]}.{parts[-1]}", _NONE).get(field)
    if own is not None:
        return own
    if required:
        return "P"
    everywhere = _EVERYWHERE.get(field)
    if everywhere is not None:
        return everywhere
    return "o" if schema_type in ("string", "array", "map") else "p"
