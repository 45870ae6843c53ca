// Where in an object a fault is: `spec.rules[0].matches`.

export type FieldPath = readonly (string | number)[];

export interface FieldFault {
  path: FieldPath;
  reason: string;
}

/** Keys that are not plain words are quoted: `metadata.labels["app.kubernetes.io/name"]`. Undefined for the object itself. */
export function formatFieldPath(path: FieldPath): string | undefined {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (!/^[\w-]+$/u.test(part)) text += `[${JSON.stringify(part)}]`;
    else text += text === '' ? part : `.${part}`;
  }
  return text === '' ? undefined : text;
}
