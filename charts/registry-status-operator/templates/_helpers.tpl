{{/* The chart's name, or what replaces it. */}}
{{- define "registry-status-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* How objects are called: the release's name, with the chart's name unless it holds it already. */}}
{{- define "registry-status-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* How roles outside of the release's namespace are called: releases of one name in two namespaces must not share them. */}}
{{- define "registry-status-operator.roleName" -}}
{{- printf "%s:%s" (include "registry-status-operator.fullname" .) .Release.Namespace }}
{{- end }}

{{/* Whether there are several replicas, one of which has to be elected. */}}
{{- define "registry-status-operator.elects" -}}
{{- gt (int .Values.replicaCount) 1 }}
{{- end }}

{{- define "registry-status-operator.leaseName" -}}
{{- default (printf "%s-leader" (include "registry-status-operator.fullname" .)) .Values.leaderElection.leaseName }}
{{- end }}

{{- define "registry-status-operator.leaseNamespace" -}}
{{- default .Release.Namespace .Values.leaderElection.leaseNamespace }}
{{- end }}

{{- define "registry-status-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "registry-status-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* What never changes for a release: a Deployment's selector cannot. */}}
{{- define "registry-status-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "registry-status-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* The chart's own labels win over the common ones. */}}
{{- define "registry-status-operator.labels" -}}
{{- $own := include "registry-status-operator.selectorLabels" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/component" "operator" }}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- merge $own (default dict .Values.commonLabels) | toYaml }}
{{- end }}

{{- define "registry-status-operator.podLabels" -}}
{{- $own := include "registry-status-operator.selectorLabels" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/component" "operator" }}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion }}
{{- merge $own (default dict .Values.podLabels) (default dict .Values.commonLabels) | toYaml }}
{{- end }}

{{- define "registry-status-operator.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Secret with the credentials, if there is one. */}}
{{- define "registry-status-operator.authSecret" -}}
{{- with .Values.registry.auth }}
{{- default (ternary (printf "%s-auth" (include "registry-status-operator.fullname" $)) "" .externalSecret.enabled) .existingSecret }}
{{- end }}
{{- end }}

{{/* The Secret with the certificates, if there is one. */}}
{{- define "registry-status-operator.tlsSecret" -}}
{{- with .Values.registry.tls }}
{{- default (ternary (printf "%s-tls" (include "registry-status-operator.fullname" $)) "" .externalSecret.enabled) .existingSecret }}
{{- end }}
{{- end }}

{{/*
Every setting of the operator: its environment variable, and where its value comes from. A variable without a value is left
out. A new setting of operator/registry_status/config.py needs a line here; tests/charts says so if it is missing.
*/}}
{{- define "registry-status-operator.settings" -}}
REGISTRY_STATUS_REGISTRY_ADDRESS: {{ join "," .Values.registry.addresses | quote }}
REGISTRY_STATUS_REGISTRY_PROJECT: {{ .Values.registry.project | quote }}
REGISTRY_STATUS_REGISTRY_DOMAIN: {{ .Values.registry.domain | quote }}
REGISTRY_STATUS_ALLOW_PROJECT: {{ join "," .Values.registry.allowProjects | quote }}
REGISTRY_STATUS_ALLOW_DOMAIN: {{ join "," .Values.registry.allowDomains | quote }}
REGISTRY_STATUS_REQUEST_TIMEOUT: {{ .Values.registry.requestTimeout | quote }}
REGISTRY_STATUS_CONNECT_TIMEOUT: {{ .Values.registry.connectTimeout | quote }}
REGISTRY_STATUS_CONCURRENCY: {{ .Values.registry.concurrency | quote }}
{{- with .Values.registry.auth }}
{{- if .username }}
REGISTRY_STATUS_REGISTRY_USERNAME: {{ .username | quote }}
REGISTRY_STATUS_REGISTRY_PASSWORD_FILE: {{ printf "/etc/registry-status/auth/%s" .passwordKey | quote }}
{{- end }}
{{- if .accessKeyKey }}
REGISTRY_STATUS_REGISTRY_ACCESS_KEY_FILE: {{ printf "/etc/registry-status/auth/%s" .accessKeyKey | quote }}
REGISTRY_STATUS_REGISTRY_SECRET_KEY_FILE: {{ printf "/etc/registry-status/auth/%s" .secretKeyKey | quote }}
REGISTRY_STATUS_REGISTRY_ACCESS_KEY_PROJECT: {{ .accessKeyProject | quote }}
{{- end }}
{{- end }}
{{- with .Values.registry.tls }}
{{- if and (include "registry-status-operator.tlsSecret" $) .caKey }}
REGISTRY_STATUS_REGISTRY_CA_FILE: {{ printf "/etc/registry-status/tls/%s" .caKey | quote }}
{{- end }}
{{- if and (include "registry-status-operator.tlsSecret" $) .certKey }}
REGISTRY_STATUS_REGISTRY_CLIENT_CERT_FILE: {{ printf "/etc/registry-status/tls/%s" .certKey | quote }}
REGISTRY_STATUS_REGISTRY_CLIENT_KEY_FILE: {{ printf "/etc/registry-status/tls/%s" .keyKey | quote }}
{{- end }}
{{- end }}
REGISTRY_STATUS_NAMESPACE: {{ join "," .Values.watch.namespaces | quote }}
REGISTRY_STATUS_LABEL_SELECTOR: {{ .Values.watch.labelSelector | quote }}
REGISTRY_STATUS_SHARD: {{ .Values.watch.shard | quote }}
REGISTRY_STATUS_WATCH_FILTER: {{ .Values.watch.filter | quote }}
REGISTRY_STATUS_LEADER_ELECT: {{ ternary "true" "false" (eq (include "registry-status-operator.elects" .) "true") | quote }}
{{- if eq (include "registry-status-operator.elects" .) "true" }}
REGISTRY_STATUS_LEASE_NAME: {{ include "registry-status-operator.leaseName" . | quote }}
REGISTRY_STATUS_LEASE_NAMESPACE: {{ .Values.leaderElection.leaseNamespace | quote }}
{{- end }}
REGISTRY_STATUS_CLASS: {{ .Values.pods.class | quote }}
REGISTRY_STATUS_ANNOTATION_PREFIX: {{ .Values.pods.annotationPrefix | quote }}
REGISTRY_STATUS_TERMINATING_STATUS: {{ .Values.pods.terminatingStatus | quote }}
REGISTRY_STATUS_STARTING_STATUS: {{ .Values.pods.startingStatus | quote }}
REGISTRY_STATUS_NOT_READY_STATUS: {{ .Values.pods.notReadyStatus | quote }}
REGISTRY_STATUS_TRUST_INSTANCE_IDS: {{ .Values.pods.trustInstanceIds | quote }}
REGISTRY_STATUS_READINESS_GATE: {{ .Values.pods.readinessGate | quote }}
REGISTRY_STATUS_RESYNC_INTERVAL: {{ .Values.delivery.resyncInterval | quote }}
REGISTRY_STATUS_REGISTRATION_WINDOW: {{ .Values.delivery.registrationWindow | quote }}
REGISTRY_STATUS_DRY_RUN: {{ .Values.delivery.dryRun | quote }}
REGISTRY_STATUS_REPORT_UPDATES: {{ .Values.events.reportUpdates | quote }}
REGISTRY_STATUS_LOG_LEVEL: {{ .Values.log.level | quote }}
REGISTRY_STATUS_LOG_FORMAT: {{ .Values.log.format | quote }}
REGISTRY_STATUS_LISTEN: {{ printf (ternary "[%s]:%v" "%s:%v" (contains ":" .Values.http.host)) .Values.http.host .Values.http.port | quote }}
{{- end }}

{{/* Stops the release where no registry is named, by a value or in an environment that is added. */}}
{{- define "registry-status-operator.checkValues" -}}
{{- $elsewhere := not (empty .Values.extraEnvFrom) }}
{{- range .Values.extraEnv }}
{{- if eq .name "REGISTRY_STATUS_REGISTRY_ADDRESS" }}{{ $elsewhere = true }}{{ end }}
{{- end }}
{{- if not (or .Values.registry.addresses $elsewhere) }}
{{- fail "registry.addresses is empty: name your Service Center, such as --set 'registry.addresses={http://registry.example:30100}'" }}
{{- end }}
{{- end }}

{{/*
Stops the release where a value is null that cannot be left out: it would make an object that is refused, or lets in more. A whole
section that is null is left out.
*/}}
{{- define "registry-status-operator.checkNull" -}}
{{- range $path := list "http.host" "http.port" "service.port" "image.repository" "networkPolicy.dns.port" "monitoring.prometheusRule.runbookUrl" }}
{{- $value := $.Values }}
{{- range splitList "." $path }}
{{- $value = ternary (index (default dict $value) .) "" (kindIs "map" $value) }}
{{- end }}
{{- include "registry-status-operator.notNull" (list $path $value) }}
{{- end }}
{{- end }}

{{- define "registry-status-operator.notNull" -}}
{{- if kindIs "invalid" (index . 1) }}
{{- fail (printf "%s is null: leave it out to have its default" (index . 0)) }}
{{- end }}
{{- end }}

{{/*
Stops the release where its name, which may have dots and begin with a digit, makes one that no Service can have. Newer versions
of Kubernetes take the digit.
*/}}
{{- define "registry-status-operator.checkName" -}}
{{- $name := include "registry-status-operator.fullname" . }}
{{- $first := ternary "a-z0-9" "a-z" (semverCompare ">=1.34-0" .Capabilities.KubeVersion.Version) }}
{{- if and .Values.service.enabled (not (regexMatch (printf "^[%s]([-a-z0-9]*[a-z0-9])?$" $first) $name)) }}
{{- fail (printf "no Service can be called %s: set fullnameOverride to lower-case letters, digits and '-', a letter first" $name) }}
{{- end }}
{{- end }}

{{/*
Stops the release where credentials are asked for and no Secret is named or made; and where there is one of which nothing is used,
unless what the user adds may say how.
*/}}
{{- define "registry-status-operator.checkCredentials" -}}
{{- with .Values.registry.auth }}
{{- if and (or .username .accessKeyKey) (not (include "registry-status-operator.authSecret" $)) }}
{{- fail "registry.auth.existingSecret is empty: name the Secret that holds the password or the access key" }}
{{- end }}
{{- if and .username .accessKeyKey }}
{{- fail "registry.auth.username and registry.auth.accessKeyKey: only one of them can be used" }}
{{- end }}
{{- end }}
{{- if and .Values.registry.tls.certKey (not (include "registry-status-operator.tlsSecret" .)) }}
{{- fail "registry.tls.existingSecret is empty: name the Secret that holds the certificate" }}
{{- end }}
{{- range $part := list "auth" "tls" }}
{{- with (index $.Values.registry $part).externalSecret }}
{{- if and .enabled (not (and .storeName .data)) }}
{{- fail (printf "registry.%s.externalSecret.enabled needs its storeName and data" $part) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.registry }}
{{- $auth := include "registry-status-operator.authSecret" $ }}
{{- $elsewhere := or $.Values.extraEnv $.Values.extraEnvFrom $.Values.extraArgs }}
{{- if and $auth (not (or .auth.username .auth.accessKeyKey $elsewhere)) }}
{{- fail (printf "registry.auth: the Secret %s would be mounted, and no credentials sent: set registry.auth.username or registry.auth.accessKeyKey" $auth) }}
{{- end }}
{{- if and .auth.externalSecret.enabled .tls.externalSecret.enabled (eq $auth (include "registry-status-operator.tlsSecret" $)) }}
{{- fail (printf "registry.auth.existingSecret and registry.tls.existingSecret are both %s: two ExternalSecrets cannot make one Secret" $auth) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Stops the release where nothing, or everything twice, would be scraped. */}}
{{- define "registry-status-operator.checkMonitoring" -}}
{{- with .Values.monitoring }}
{{- if and .serviceMonitor.enabled .podMonitor.enabled }}
{{- fail "monitoring.serviceMonitor.enabled and monitoring.podMonitor.enabled: only one of them can be used, or all is scraped twice" }}
{{- end }}
{{- if and .serviceMonitor.enabled (not $.Values.service.enabled) }}
{{- fail "monitoring.serviceMonitor.enabled needs service.enabled; monitoring.podMonitor.enabled does not" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Metadata of an object for monitoring: its namespace and labels are what Prometheus or Grafana look for. */}}
{{- define "registry-status-operator.monitoringMetadata" -}}
{{- $chart := index . 0 }}
{{- $values := index . 1 }}
name: {{ include "registry-status-operator.fullname" $chart | quote }}
namespace: {{ default $chart.Release.Namespace $values.namespace | quote }}
labels:
  {{- merge (include "registry-status-operator.labels" $chart | fromYaml) (default dict $values.labels) | toYaml | nindent 2 }}
{{- end }}

{{/* How a ServiceMonitor or PodMonitor scrapes; what both add to `job` and `namespace` is the alerts' way to find the series. */}}
{{- define "registry-status-operator.endpoint" -}}
port: http
path: /metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What selects this release's series. */}}
{{- define "registry-status-operator.series" -}}
{{- $ours := printf "namespace=%q,job=%q" .Release.Namespace (include "registry-status-operator.fullname" .) }}
{{- default $ours .Values.monitoring.prometheusRule.selector }}
{{- end }}

{{/* By this name the pod of `helm test` is told from the operator's: Service and budget do not find it. */}}
{{- define "registry-status-operator.testName" -}}
{{- printf "%s-test" (include "registry-status-operator.name" . | trunc 58 | trimSuffix "-") }}
{{- end }}

{{/* The ports of the registry, as a list in JSON: those that are named, else those of its addresses. */}}
{{- define "registry-status-operator.registryPorts" -}}
{{- $ports := .Values.networkPolicy.registry.ports }}
{{- if not $ports }}
{{- $ports = list }}
{{- range .Values.registry.addresses }}
{{- $address := urlParse . }}
{{- $named := regexFind ":[0-9]+$" $address.host | trimPrefix ":" }}
{{- $ports = append $ports (default (ternary "443" "80" (eq $address.scheme "https")) $named | int) }}
{{- end }}
{{- end }}
{{- if not $ports }}
{{- fail "networkPolicy.registry.ports is empty: name the registry's ports, which are not told by registry.addresses" }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}

{{/* Constraints that do not say whose pods they spread mean the operator's. */}}
{{- define "registry-status-operator.spread" -}}
{{- $ours := dict "matchLabels" (include "registry-status-operator.selectorLabels" . | fromYaml) }}
{{- range .Values.topologySpreadConstraints }}
- {{ ternary . (set (deepCopy .) "labelSelector" $ours) (hasKey . "labelSelector") | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}

{{/*
The operator's environment, for `run` as for `check`. A variable that the user adds takes the place of ours: two of one name are
refused or lost, depending on how they are applied.
*/}}
{{- define "registry-status-operator.env" -}}
{{- $theirs := dict }}
{{- range .Values.extraEnv }}
{{- $_ := set $theirs .name true }}
{{- end }}
{{- $fields := dict "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" "POD_UID" "metadata.uid" "NODE_NAME" "spec.nodeName" }}
{{- range $name, $path := $fields }}
{{- if not (hasKey $theirs $name) }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
{{- end }}
{{- range $name, $value := include "registry-status-operator.settings" . | fromYaml }}
{{- if and $value (not (hasKey $theirs $name)) }}
- name: {{ $name }}
  {{- /* Kubernetes puts in other variables for $(NAME), and takes $$ for a $. */}}
  value: {{ $value | replace "$" "$$" | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "registry-status-operator.volumeMounts" -}}
# The root file system is read-only.
- name: tmp
  mountPath: /tmp
{{- with include "registry-status-operator.authSecret" . }}
- name: registry-auth
  mountPath: /etc/registry-status/auth
  readOnly: true
{{- end }}
{{- with include "registry-status-operator.tlsSecret" . }}
- name: registry-tls
  mountPath: /etc/registry-status/tls
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "registry-status-operator.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 16Mi
{{- with include "registry-status-operator.authSecret" . }}
- name: registry-auth
  secret:
    secretName: {{ . | quote }}
{{- end }}
{{- with include "registry-status-operator.tlsSecret" . }}
- name: registry-tls
  secret:
    secretName: {{ . | quote }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the operator may do where it watches pods: read them, and post events on them. It never writes to a pod. */}}
{{- define "registry-status-operator.watchRules" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
{{- if .Values.pods.readinessGate }}
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
{{- end }}
{{ include "registry-status-operator.eventRules" . }}
{{- end }}

{{- define "registry-status-operator.eventRules" -}}
- apiGroups: [""]
  resources: [events]
  verbs: [create, get, patch]
{{- end }}

{{/* The Lease alone; what is created has no name yet by which to restrict it. */}}
{{- define "registry-status-operator.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "registry-status-operator.leaseName" . | quote }}]
  verbs: [get, update]
{{- end }}

{{/* The user's affinity, and one that keeps replicas apart. */}}
{{- define "registry-status-operator.affinity" -}}
{{- $affinity := deepCopy (default dict .Values.affinity) }}
{{- $elects := eq (include "registry-status-operator.elects" .) "true" }}
{{- if and $elects (ne .Values.antiAffinity "none") (not $affinity.podAntiAffinity) }}
{{- $others := dict "matchLabels" (include "registry-status-operator.selectorLabels" . | fromYaml) }}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" $others }}
{{- $soft := dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term)) }}
{{- $hard := dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term) }}
{{- $_ := set $affinity "podAntiAffinity" (ternary $hard $soft (eq .Values.antiAffinity "hard")) }}
{{- end }}
{{- if $affinity }}
{{- toYaml $affinity }}
{{- end }}
{{- end }}

{{- define "registry-status-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "registry-status-operator.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}
