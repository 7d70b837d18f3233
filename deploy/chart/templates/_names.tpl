{{/* What selects the pods, and the labels of all that belongs to them. */}}
{{- define "selector" -}}
app.kubernetes.io/name: initserver
{{- end }}
{{- define "labels" -}}
{{ include "selector" . }}
app.kubernetes.io/part-of: initserve
{{- end }}
{{/* The access that was chosen; another word is refused. */}}
{{- define "access" -}}
{{- if not (has .Values.access (list "mtls" "tokens" "plaintext")) -}}
{{- fail (printf "access is %q; use mtls, tokens or plaintext" .Values.access) -}}
{{- end -}}
{{ .Values.access }}
{{- end }}
{{- define "image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ required "image: give a digest, or a tag" .Values.image.tag }}
{{- end -}}
{{- end }}
