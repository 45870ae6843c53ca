// The CNI contract, as far as a chained plugin without interfaces of its own needs it (CNI spec 1.1.0, sections 2 to 5).

/** 0.3.x differ from 0.4.0 only in what we never look at. */
export const SUPPORTED_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export const LATEST_VERSION = '1.1.0';

/** Error codes: 1 to 99 are the spec's, from 100 on a plugin's own. */
export const CNI_CODE = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  invalidEnvironment: 4,
  ioFailure: 5,
  decodingFailure: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  unavailable: 50,
  /** The agent refused: the pod cannot be taken into the mesh, or its rules are not what they should be. */
  refused: 100,
} as const;

export type CniCode = (typeof CNI_CODE)[keyof typeof CNI_CODE];

/** A failed verb, printed as the spec's error result. */
export class CniError extends Error {
  override readonly name = 'CniError';
  readonly code: CniCode;
  readonly details: string;

  constructor(code: CniCode, message: string, details = '') {
    super(message);
    this.code = code;
    this.details = details;
  }
}

/** The network configuration on standard input. */
export interface NetConf {
  cniVersion: string;
  name: string;
  /** What the plugins before this one did; opaque to us but for the addresses. */
  prevResult: Record<string, unknown> | undefined;
  /** Where the agent's sockets are. */
  runDir: string;
  excludeNamespaces: readonly string[];
  /** GC only: the containers that still have an attachment. */
  validContainers: readonly string[] | undefined;
}

export const DEFAULT_RUN_DIR = '/var/run/culvert-cni';

export function parseNetConf(text: string): NetConf {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CniError(CNI_CODE.decodingFailure, 'the network configuration on standard input is not JSON', String(error));
  }
  if (!isRecord(value)) throw new CniError(CNI_CODE.decodingFailure, 'the network configuration is not a JSON object');
  const { cniVersion = '0.1.0', name = '', prevResult, cni_agent_run_dir: runDir = DEFAULT_RUN_DIR } = value;
  if (typeof cniVersion !== 'string') throw invalid('cniVersion', 'not a string');
  if (typeof name !== 'string') throw invalid('name', 'not a string');
  if (typeof runDir !== 'string' || !runDir.startsWith('/')) throw invalid('cni_agent_run_dir', 'not an absolute path');
  if (prevResult !== undefined && prevResult !== null && !isRecord(prevResult)) throw invalid('prevResult', 'not an object');
  return {
    cniVersion,
    name,
    prevResult: prevResult ?? undefined,
    runDir,
    excludeNamespaces: strings(value['exclude_namespaces'], 'exclude_namespaces'),
    validContainers: validContainers(value['cni.dev/valid-attachments']),
  };
}

function validContainers(value: unknown): string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) throw invalid('cni.dev/valid-attachments', 'not a list');
  return value.map((attachment: unknown) => {
    if (isRecord(attachment) && typeof attachment['containerID'] === 'string') return attachment['containerID'];
    throw invalid('cni.dev/valid-attachments', 'an entry has no containerID');
  });
}

function strings(value: unknown, field: string): string[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value) && value.every((entry) => typeof entry === 'string')) return value;
  throw invalid(field, 'not a list of strings');
}

function invalid(field: string, reason: string): CniError {
  return new CniError(CNI_CODE.invalidConfig, `network configuration: ${field}: ${reason}`);
}

/** Addresses, without prefix lengths, that the plugins before us gave the pod. */
export function addressesOf(prevResult: Record<string, unknown> | undefined): string[] {
  const ips = prevResult?.['ips'];
  if (!Array.isArray(ips)) return [];
  return ips.flatMap((entry: unknown) =>
    isRecord(entry) && typeof entry['address'] === 'string' ? [entry['address'].replace(/\/\d+$/u, '')] : [],
  );
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
