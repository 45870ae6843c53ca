// Kubernetes objects as every component sees them, whatever their source (folder, API server).

export interface ObjectMeta {
  name: string;
  /** '' for cluster-scoped objects. */
  namespace: string;
  uid?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  creationTimestamp?: string;
  generation?: number;
  deletionTimestamp?: string;
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid?: string; controller?: boolean }[];
}

/** `S` and `T` are the parts the kind is about; kinds.ts has one type per kind. */
export interface KubeObject<K extends string = string, S = unknown, T = unknown> {
  apiVersion: string;
  kind: K;
  metadata: ObjectMeta;
  spec?: S;
  status?: T;
}

/** `Kind/namespace/name`, or `Kind//name` for cluster-scoped objects. Unique among the kinds the mesh reads. */
export type ObjectKey = string;

export function objectKey(object: { kind: string; metadata: { namespace?: string | undefined; name: string } }): ObjectKey {
  return `${object.kind}/${object.metadata.namespace ?? ''}/${object.metadata.name}`;
}

/** A fault in one object or file: shown to people as one line. */
export interface ObjectFault {
  /** File name, or the name of the source. */
  where: string;
  /** `Kind/namespace/name` when known. */
  object?: ObjectKey | undefined;
  /** `spec.rules[0].matches` when known. */
  field?: string | undefined;
  reason: string;
}

export function formatFault(fault: ObjectFault): string {
  return [fault.where, fault.object, fault.field, fault.reason].filter((part) => part !== undefined).join(': ');
}

export type ObjectEvent = { type: 'set'; key: ObjectKey; object: KubeObject } | { type: 'delete'; key: ObjectKey };

/** Where objects come from. A batch is applied as a whole; the first one is the complete state. */
export interface ObjectSource {
  /** Resolves after the first batch was delivered. */
  watch(onBatch: (events: ObjectEvent[]) => void, onFaults: (faults: readonly ObjectFault[]) => void): Promise<void>;
  /** Where an object stands, for fault lines: `FILE:LINE`, or the name of the source. */
  locate(key: ObjectKey): string;
  close(): void;
}

/** Where a controller writes what it owns: a folder, or server-side apply. `writer` is the field manager. */
export interface ObjectWriter {
  /** Creates or replaces a whole object. */
  apply(object: KubeObject): Promise<void>;
  remove(key: ObjectKey): Promise<void>;
  /** Merges `patch` (annotations, status, single spec fields) over an object that something else owns; undefined takes it back. */
  overlay(key: ObjectKey, patch: Record<string, unknown> | undefined): Promise<void>;
}
