import js from '@eslint/js';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['lib', 'node_modules', 'src/generated'] },
  js.configs.recommended,
  {
    files: ['src/**/*.{ts,tsx}'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      // Lumino's signals take the object as their second argument.
      '@typescript-eslint/unbound-method': 'off',
      // Numbers in template strings are meant.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }]
    }
  },
  {
    files: ['test/**/*.ts'],
    extends: [tseslint.configs.strict]
  },
  { files: ['scripts/*.mjs', '*.mjs'], languageOptions: { globals: { process: 'readonly', URL: 'readonly' } } }
);
